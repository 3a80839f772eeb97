#!/usr/bin/env python3
"""Compares smelt's speed on an encoder with onnxruntime's on the same machine, in one run: one short text, and 64 of mixed length.

usage: compare_encoder.py MODEL.smelt MODEL.onnx [--smelt BINARY] [--rounds 5] [--threads 1 2] [--json OUT]

onnxruntime runs MODEL.onnx (float32) quantized to INT8 by its own dynamic quantizer, per channel, on token ids of the lengths of smelt's
texts; of 64 texts it is given the best of three ways: all in one batch with padding, sorted by length in batches of 8, one by one. Its
figures are without tokenizing and pooling, smelt's with both. Every engine runs in a fresh process, round after round in random order.
"""
import argparse
import json
import random
import statistics
from pathlib import Path

from compare_peers import EXPORTERS, PEERS, ROOT, call, environment

QUANTIZE = """
import sys
from onnxruntime.quantization import quantize_dynamic, QuantType
quantize_dynamic(sys.argv[1], sys.argv[2], weight_type=QuantType.QInt8, per_channel=True)
"""
MEASURE = """
import json, random, sys, time
import numpy as np, onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
session = ort.InferenceSession(sys.argv[1], options)
names = {i.name for i in session.get_inputs()}
texts = [[random.randrange(1000, 20000) for _ in range(n)] for n in json.loads(sys.argv[3])]

def batch(rows):
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, :len(row)], mask[i, :len(row)] = row, 1
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: value for name, value in feed.items() if name in names}

def seconds(batches, repeats):
    taken = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        for feed in batches:
            session.run(None, feed)
        taken.append(time.perf_counter() - start)
    return sorted(taken[1:])[repeats // 2]

near = sorted(texts[1:], key=len)
print(json.dumps({"one": seconds([batch(texts[:1])], 20), "padded": seconds([batch(texts[1:])], 1),
                  "sorted": seconds([batch(near[i:i + 8]) for i in range(0, len(near), 8)], 3),
                  "single": seconds([batch([t]) for t in texts[1:]], 3)}))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path, help="the compiled encoder")
    parser.add_argument("model", type=Path, help="its float32 ONNX model")
    parser.add_argument("--smelt", type=Path, default=ROOT / "build" / "default" / "bin" / "smelt", help="the smelt program")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, help="write every measurement here")
    args = parser.parse_args()
    for path in (args.artifact, args.model, args.smelt):
        if not path.exists():
            raise SystemExit(f"compare_encoder: there is no {path}")
    python = environment("exporters", EXPORTERS)
    quantized = PEERS / "models" / f"{args.model.resolve().parent.name}-{args.model.stem}-int8.onnx"
    quantized.parent.mkdir(parents=True, exist_ok=True)
    call(python, "-c", QUANTIZE, args.model, quantized)

    blocks = []
    for number in range(args.rounds):
        for engine, threads in random.sample([(e, t) for e in ("smelt", "onnxruntime") for t in args.threads], 2 * len(args.threads)):
            texts = json.loads(call(args.smelt, "bench", args.artifact, "--threads", threads, "--rounds", 3, "--json"))["texts"]
            if engine == "smelt":
                found = {"one": texts["short_text_seconds"], "many": texts["texts"] / texts["texts_per_second"]}
            else:
                lengths = [int(texts["short_text_tokens"]), *map(int, texts["lengths"])]
                found = json.loads(call(python, "-c", MEASURE, quantized, threads, json.dumps(lengths)).splitlines()[-1])
            blocks.append({"round": number, "engine": engine, "threads": threads, **found})

    def median(engine: str, threads: int, key: str) -> float:
        return statistics.median(b[key] for b in blocks if (b["engine"], b["threads"]) == (engine, threads))

    for threads in args.threads:
        ours, theirs = median("smelt", threads, "one"), median("onnxruntime", threads, "one")
        print(f"{threads}T one short text          {1e3 * ours:8.2f} ms, onnxruntime {1e3 * theirs:8.2f} ms: {theirs / ours:.2f} times as fast")
        ours = median("smelt", threads, "many")
        for way in ("padded", "sorted", "single"):
            theirs = median("onnxruntime", threads, way)
            print(f"{threads}T 64 of mixed length      {1e3 * ours:8.2f} ms, onnxruntime {way} {1e3 * theirs:8.2f} ms: {theirs / ours:.2f} times as fast")
    if args.json:
        args.json.write_text(json.dumps(blocks, indent=1) + "\n")


if __name__ == "__main__":
    main()
