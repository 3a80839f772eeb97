"""transformers.exporters.OnnxExporter (transformers 5.x): decoders by their `decode` component, encoders by a plain export."""
import os

import onnx_ir
import torch

import architectures
from exporters import tidy, versions


def hfnative(root, name, folder, opset=None, fusions=None, dtype=None, **_):
    from transformers.exporters import OnnxConfig, OnnxExporter

    model = architectures.load(root, name)
    if dtype:
        model = model.to(dtype)
    config = OnnxConfig(dynamic=True, opset_version=opset, ort_fusions=fusions)
    ids = torch.randint(3, 200, (2, 8))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    inputs["attention_mask"][0, :2] = 0  # with a mask of ones alone the export would leave padding out
    if architectures.kind(name) == "decoder":
        exported = OnnxExporter().export_for_generation(model, inputs, config, multi_token_decode=True)
        program, how = exported.components["decode"].program, "export_for_generation(multi_token_decode=True), component decode"
    else:
        if getattr(model.config, "type_vocab_size", 0) == 2:
            inputs["token_type_ids"] = torch.zeros_like(ids)
        program, how = OnnxExporter().export(model, inputs, config).program, "export"
    onnx_ir.save(program, os.path.join(folder, "model.onnx"))
    model.config.save_pretrained(folder)
    tidy(folder)
    return f"transformers.exporters.OnnxExporter, {how}, {versions('transformers', 'torch', 'onnxscript')}, ort_fusions {fusions}"
