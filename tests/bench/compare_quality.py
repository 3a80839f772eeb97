#!/usr/bin/env python3
"""Compares what quantization costs: smelt's files against llama.cpp's and onnxruntime's of no fewer bytes, on the same weights and texts.

usage: compare_quality.py MODEL.onnx --hf FOLDER --gguf FILE --calibration TEXT --text TEXT... --out FOLDER [--windows 16] [--smelt BINARY]
                          [--llama KIND ...] [--onnxruntime BITS ...] [--activations KIND] [--sizes BYTES ...] [--json OUT]

MODEL.onnx is a float32 export of the checkpoint in the Hugging Face FOLDER; the GGUF is any of the same architecture, its metadata and
tokenizer are copied. llama.cpp's importance matrix and smelt's statistics come from the same windows of the calibration text. Windows of
512 tokens, second half scored, each engine against its own float32 run (llama.cpp's convention); bytes are those of the whole file,
tokenizer included (onnxruntime: the folder's graph and weights). smelt compiles its defaults for 4 and 8 bits, and one file of at most
the bytes of each peer's. Every step's result is kept in the --out folder and not made again: another model or text wants another folder.
Where the checkpoint came from a quantized file, permute it first (permute_channels.py).
"""
import argparse
import json
import os
from pathlib import Path

from compare_peers import EXPORTERS, HERE, PACKAGES, ROOT, call, environment, say

KINDS = ["IQ4_NL", "Q4_0", "Q4_1", "Q4_K_M", "Q5_1", "Q5_K_M", "Q6_K", "Q8_0"]
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TQDM_DISABLE": "1"}
NEAR = 0.99  # a smelt file of this share of a peer's bytes stands for it: one compilation less


class Quality:
    def __init__(self, args):
        self.args, self.out = args, args.out
        self.out.mkdir(parents=True, exist_ok=True)
        self.exporter, self.runner = environment("exporters", EXPORTERS), environment("venv", PACKAGES, CMAKE_ARGS="-DGGML_NATIVE=ON")
        self.results_file = self.out / "scores.json"
        self.scores = json.loads(self.results_file.read_text()) if self.results_file.exists() else {}

    def step(self, python: Path, *command) -> dict:
        return json.loads(call(python, HERE / "quality_peer.py", *command, env=os.environ | OFFLINE).splitlines()[-1])

    def made(self, name: str, python: Path, step: str, *command) -> Path:
        """What a step writes as its last path argument named OUT, made once: first beside its place, so that a stopped run leaves no part."""
        path = self.out / name
        if not path.exists():
            say(f"{step} {name}")
            partial = path.with_name("partial-" + path.name)
            self.step(python, step, *[partial if c is OUT else c for c in command])
            partial.rename(path)
        return path

    def windows(self, text: Path, count: int) -> Path:
        return self.made(f"{text.stem}-{count}.npy", self.exporter, "tokens", self.args.hf, text, OUT, count)

    def make_peers(self) -> dict:
        """Files to score by engine: {engine: {name: path}}, the float32 one named "float"."""
        args = self.args
        peers = {}
        if args.llama:
            calibration = self.windows(args.calibration, args.samples)
            matrix = self.made("importance.npz", self.exporter, "importance", args.hf, calibration, args.gguf, OUT)
            base = self.made("float.gguf", self.exporter, "gguf_float", args.hf, args.gguf, OUT)
            peers["llama"] = {"float": base} | {
                kind: self.made(f"{kind}.gguf", self.runner, "llama_quantize", base, OUT, kind, matrix) for kind in args.llama}
        if args.onnxruntime:
            peers["ort"] = {"float": args.model} | {
                f"int{bits}": self.made(f"onnxruntime-int{bits}", self.exporter, "ort_quantize", args.model, OUT, bits) / "model.onnx"
                for bits in args.onnxruntime}
        return peers

    def keep(self, name: str, size: int, texts: dict, **more):
        self.scores[name] = {"bytes": size, "texts": texts} | more
        self.results_file.write_text(json.dumps(self.scores, indent=1) + "\n")

    def score_peers(self, peers: dict):
        python = {"llama": self.runner, "ort": self.exporter}
        config = json.loads((self.args.hf / "config.json").read_text())
        head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        for engine, files in peers.items():
            todo = {name: path for name, path in files.items() if name != "float" and f"{engine} {name}" not in self.scores}
            found = {}
            for text in self.args.text if todo else []:
                say(f"{engine}: {', '.join(todo)} on {text.name}")
                scored = self.step(python[engine], "score", engine, self.windows(text, self.args.windows), head_dim, files["float"], *todo.values())
                for name, path in todo.items():
                    found.setdefault(name, {})[str(text)] = scored[str(path)]
            for name, path in todo.items():
                parts = [path] if path.suffix == ".gguf" else list(path.parent.iterdir())
                self.keep(f"{engine} {name}", sum(p.stat().st_size for p in parts), found[name])

    def targets(self) -> list:
        """Sizes to compile for, from the smallest: every peer's file has one of at most its bytes and not much less."""
        chosen = list(self.args.sizes or [])
        if chosen:
            return sorted(chosen)
        for size in sorted(s["bytes"] for name, s in self.scores.items() if not name.startswith("smelt")):
            if not chosen or chosen[-1] < NEAR * size:
                chosen.append(size)
        return chosen

    def score_smelt(self):
        wanted = {"smelt default": [], "smelt int8": ["--weights", "int8"]} | {f"smelt <= {size}": ["--max-size", size] for size in self.targets()}
        for name, options in wanted.items():
            if name in self.scores:
                continue
            artifact = self.out / (name.replace(" <= ", "-").replace(" ", "-") + ".smelt")
            if not artifact.exists():
                say(f"compiling {name}")
                call(self.args.smelt, "compile", self.args.model, "--data", self.args.calibration, "--samples", self.args.samples, "--work",
                     self.out / "work", "--target", "native", "--activations", self.args.activations, *options, "--quiet", "--output", artifact)
            say(f"scoring {name}")
            texts = {str(t): self.eval(artifact, t) for t in self.args.text}
            self.keep(name, artifact.stat().st_size, texts)

    def eval(self, artifact: Path, text: Path) -> dict:
        found = json.loads(call(self.args.smelt, "eval", artifact, "--reference", self.args.model, "--text", text, "--chunks", self.args.windows,
                                "--json", "--quiet"))
        return {"tokens": found["tokens"], "kl": found["mean_kl"], "kl_error": found["mean_kl_error"], "kl_99": found["kl_99"],
                "base_perplexity": found["ppl_reference"], "ratio": found["ppl_ratio"], "same_top": found["same_top"]}

    def report(self):
        """Prints a row a file from the smallest, and each smelt file's KL as a share of the best peer's that is no smaller."""
        texts = [str(t) for t in self.args.text]
        print(f"| {'file':24} | {'bytes':>13} | " + " | ".join(f"{'KL ' + Path(t).stem:>17} | {'PPL':>7} | {'same top':>8}" for t in texts) + " |")
        print("|---|---|" + "---|---|---|" * len(texts))
        for name, found in sorted(self.scores.items(), key=lambda item: item[1]["bytes"]):
            cells = [f"{s['kl']:.5f} +- {s['kl_error']:.5f} | {100 * (s['ratio'] - 1):+6.2f}% | {100 * s['same_top']:7.1f}%"
                     for s in (found["texts"][t] for t in texts)]
            print(f"| {name:24} | {found['bytes']:>13,} | " + " | ".join(cells) + " |")
        for t in texts:
            bases = {name: s["texts"][t]["base_perplexity"] for name, s in self.scores.items()}
            if max(bases.values()) > 1.001 * min(bases.values()):
                print(f"warning: the engines' float32 models differ on {t}: perplexities {bases}")
        for name, share, limit in self.shares():
            print(f"{name:48} KL share {share:.3f}, must be <= {limit}: {'met' if share <= limit else 'NOT MET'}")

    def shares(self) -> list:
        """(peer's file, the least KL of smelt's files of no more bytes over its KL, limit)."""
        rows = []
        for engine, limit in (("llama", 0.4), ("ort int4", 0.2), ("ort int8", 0.4)):
            files = sorted((s["bytes"], name) for name, s in self.scores.items() if name.startswith(engine))
            ours = [(s["bytes"], name) for name, s in self.scores.items() if name.startswith("smelt")]
            for size, name in files:
                fitting = [entry for entry in ours if entry[0] <= size]
                if not fitting:
                    continue
                best = min(self.mean(n) for _, n in fitting)
                rows.append((f"{name} ({size / 1e6:.1f} MB)", best / self.mean(name), limit))
        return rows

    def mean(self, name: str) -> float:
        kls = [self.scores[name]["texts"][str(t)]["kl"] for t in self.args.text]
        return sum(kls) / len(kls)


OUT = object()  # where a step writes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the float32 ONNX model")
    parser.add_argument("--hf", type=Path, required=True, help="its checkpoint: config.json, model.safetensors, tokenizer.json")
    parser.add_argument("--gguf", type=Path, required=True, help="a GGUF of the same architecture, for its metadata")
    parser.add_argument("--calibration", type=Path, required=True, help="plain text to calibrate on")
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="plain texts to measure on, from other sources")
    parser.add_argument("--out", type=Path, required=True, help="folder that keeps every file and score")
    parser.add_argument("--windows", type=int, default=16, help="windows of each text")
    parser.add_argument("--samples", type=int, default=64, help="calibration windows")
    parser.add_argument("--smelt", type=Path, default=ROOT / "build" / "default" / "bin" / "smelt", help="the smelt program")
    parser.add_argument("--llama", nargs="*", default=KINDS, help="llama.cpp's file types")
    parser.add_argument("--onnxruntime", nargs="*", default=["4", "8"], help="bits of onnxruntime's files")
    parser.add_argument("--activations", default="int8-group", help="smelt's inputs of quantized linears")
    parser.add_argument("--sizes", type=int, nargs="*", help="bytes to compile smelt files for [those of every peer's file]")
    parser.add_argument("--json", type=Path, help="write every score here")
    args = parser.parse_args()
    for path in (args.model, args.hf, args.gguf, args.calibration, *args.text, args.smelt):
        if not path.exists():
            raise SystemExit(f"compare_quality: there is no {path}")
    quality = Quality(args)
    quality.score_peers(quality.make_peers())
    quality.score_smelt()
    quality.report()
    if args.json:
        args.json.write_text(json.dumps(quality.scores, indent=1) + "\n")


if __name__ == "__main__":
    main()
