"""The onnxruntime-genai model builder, 0.18 (transformers 5) and 0.12 (transformers 4.57)."""
import contextlib
import io
import json
import os
import shutil

import onnx

import architectures
import variants
from exporters import tidy, versions


def tokenizer(folder):
    """The builder wants a tokenizer beside the checkpoint: one word per token."""
    if os.path.exists(os.path.join(folder, "tokenizer.json")):
        return
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocab = {f"t{i}": i for i in range(256)}
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocab, unk_token="t0")), unk_token="t0", bos_token="t1",
                            eos_token="t2", pad_token="t0").save_pretrained(folder)
    path = os.path.join(folder, "tokenizer_config.json")
    settings = json.load(open(path))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"  # transformers 5 writes a name that 4.57 does not know
    json.dump(settings, open(path, "w"))


def single_file(folder):
    """Takes the weights into model.onnx, as the shared cases have them."""
    data = os.path.join(folder, "model.onnx.data")
    if os.path.exists(data):
        model = onnx.load(os.path.join(folder, "model.onnx"))
        onnx.save(model, os.path.join(folder, "model.onnx"))
        os.remove(data)


def genai(root, name, folder, precision="fp32", **options):
    from onnxruntime_genai.models import builder

    source = architectures.checkpoint(root, name)
    tokenizer(source)
    cache = os.path.join(folder, "cache")
    pairs = [f"{k}={v}" for k, v in options.items() if k != "external"]
    with contextlib.redirect_stdout(io.StringIO()):
        if hasattr(builder, "get_hf_details"):
            extra = builder.parse_extra_options("", source, folder, precision, "cpu", cache, pairs)
        else:
            extra = builder.parse_extra_options(pairs, "cpu")
        builder.create_model("", source, folder, precision, "cpu", cache, **extra)
    tidy(folder)
    if not options.get("external"):
        single_file(folder)
    shutil.copy(os.path.join(source, "config.json"), folder)
    decoder = json.load(open(os.path.join(folder, "genai_config.json")))["model"]["decoder"]
    shapes = {"head_size": decoder["head_size"], "capacity": 8 if "sliding_window" in decoder else 0}
    text = f"onnxruntime-genai builder, {versions('onnxruntime-genai', 'transformers')}, {precision} {' '.join(pairs)}".rstrip()
    extra = {"graph_options": shapes, "skip_leftpad": True, "integer": precision.startswith("int")}
    if extra["integer"] and "use_qdq" not in options:
        extra["twin"] = variants.twin(folder, variants.float_matmul_nbits)
    return text, extra
