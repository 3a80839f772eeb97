"""transformers.exporters.OnnxExporter (transformers 5.x): decoders by their `decode` component, encoders by a plain export."""
import os

import onnx_ir
import torch

import architectures
from exporters import tidy, versions


def hf_decoder(model, opset=None, fusions=None):
    """The program of a causal LM's `decode` component, which takes a prompt on an empty cache too."""
    from transformers.exporters import OnnxConfig, OnnxExporter

    ids = torch.randint(3, 200, (2, 8))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    inputs["attention_mask"][0, :2] = 0  # with a mask of ones alone the export would leave padding out
    config = OnnxConfig(dynamic=True, opset_version=opset, ort_fusions=fusions)
    return OnnxExporter().export_for_generation(model, inputs, config, multi_token_decode=True).components["decode"].program


def hf_encoder(model, opset=None, fusions=None):
    from transformers.exporters import OnnxConfig, OnnxExporter

    ids = torch.randint(3, 200, (2, 8))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    inputs["attention_mask"][0, 6:] = 0
    if getattr(model.config, "type_vocab_size", 0) == 2:
        inputs["token_type_ids"] = torch.zeros_like(ids)
    return OnnxExporter().export(model, inputs, OnnxConfig(dynamic=True, opset_version=opset, ort_fusions=fusions)).program


def hfnative(root, name, folder, opset=None, fusions=None, dtype=None, **_):
    model = architectures.load(root, name)
    if dtype:
        model = model.to(dtype)
    decoder = architectures.kind(name) == "decoder"
    program = (hf_decoder if decoder else hf_encoder)(model, opset, fusions)
    how = "export_for_generation(multi_token_decode=True), component decode" if decoder else "export"
    onnx_ir.save(program, os.path.join(folder, "model.onnx"))
    model.config.save_pretrained(folder)
    tidy(folder)
    return f"transformers.exporters.OnnxExporter, {how}, {versions('transformers', 'torch', 'onnxscript')}, ort_fusions {fusions}"
