#!/usr/bin/env python3
"""ONNX's own node tests for the ops that language models use: each model is compiled as float32 and run through the runtime.

usage: onnx_nodes.py COMPILE_MANY LIBSMELT [--only TEXT] [--verbose]

Lists that exporters write as constants (axes, sizes, scales of stored codes ...) are made initializers first: the cases of
ONNX pass them as inputs. Prints what was refused with its reason and what was wrong, then the count; exit code 1 if anything
is wrong or crashed.
"""
import argparse
import collections
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "exports"))
from library import Failure, Graph, Library, Model  # noqa: E402

warnings.filterwarnings("ignore")

# The ops of exports.md, section 5, and of the op histograms of ../shared/exports.
OPS = """Abs Add And Attention Cast Ceil Clip Concat Constant ConstantOfShape Conv Cos CumSum DequantizeLinear Div
DynamicQuantizeLinear Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm Greater GreaterOrEqual Identity
If IsNaN LayerNormalization Less LessOrEqual Log LogSoftmax MatMul MatMulInteger Max Min Mod Mul Neg NonZero Not Or Pad Pow
QLinearMatMul QuantizeLinear RMSNormalization Range Reciprocal ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape
RotaryEmbedding Round ScatterElements ScatterND Shape Sigmoid Sign Sin Size Slice Softmax Softplus Split Sqrt Squeeze Sub Swish
Tanh Tile TopK Transpose Trilu Unsqueeze Where Xor CausalConvWithState TensorScatter""".split()

# Inputs that exporters write as initializers, by op.
CONSTANT = {"Squeeze": [1], "Unsqueeze": [1], "Slice": [3], "CumSum": [1], "Pad": [3]}
HALF = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def cases(only):
    """(op, name, model, [(inputs, outputs)]) of one-node cases of the ops."""
    from onnx.backend.test.case.node import collect_testcases

    for case in collect_testcases(None):
        nodes = case.model.graph.node
        if len(nodes) == 1 and nodes[0].op_type in OPS and nodes[0].domain in ("", "ai.onnx") and only in case.name:
            yield nodes[0].op_type, case.name, case.model, case.data_sets or []


def with_constants(op, model, inputs):
    """The model with the inputs that are constants in practice as initializers, and the inputs that are left."""
    slots = CONSTANT.get(op, [1] if op.startswith("Reduce") else [])
    graph, node = model.graph, model.graph.node[0]
    names = {node.input[i] for i in slots if i < len(node.input) and node.input[i]}
    kept = []
    for port, value in zip(list(graph.input), inputs):
        if port.name in names and isinstance(value, np.ndarray):
            graph.initializer.append(numpy_helper.from_array(value, port.name))
            graph.input.remove(port)
        else:
            kept.append((port.name, value))
    return dict(kept)


def as_array(value):
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, (np.generic, int, float)) else value


def compare(found, wanted, rtol, atol):
    """Nothing, or how they differ. Half precision is computed in float, so it is compared as coarsely as half is."""
    wanted = np.asarray(wanted)
    if found.shape != wanted.shape:
        return f"shape {list(found.shape)}, expected {list(wanted.shape)}"
    if wanted.dtype.kind in "biu":
        if wanted.dtype.itemsize <= 2 and wanted.dtype.kind != "b":  # codes: a tie may round either way
            off = np.abs(found.astype(np.int64) - wanted.astype(np.int64)).max(initial=0)
            return f"off by {off}" if off > 1 else None
        return None if np.array_equal(found.astype(wanted.dtype), wanted) else "other values"
    rough = wanted.dtype.itemsize == 2
    rtol, atol = (max(rtol, 2e-2), max(atol, 2e-2)) if rough else (max(rtol, 1e-3), max(atol, 1e-5))
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    if np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True):
        return None
    return f"off by {np.nanmax(np.abs(a - b)):.3g}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("compiler")
    parser.add_argument("library")
    parser.add_argument("--only", default="")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    library = Library(arguments.library)
    verdicts, passing = collections.Counter(), set()

    def say(name, verdict, detail=""):
        verdicts[verdict] += 1
        if arguments.verbose or verdict != "ok":
            print(f"{name} {verdict} {detail}".rstrip(), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        artifact, path = Path(folder) / "node.smelt", Path(folder) / "model.onnx"

        def start():
            return subprocess.Popen([arguments.compiler], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        compiler = start()
        for op, name, model, sets in cases(arguments.only):
            inputs, outputs = ([as_array(v) for v in part] for part in sets[0])
            if not all(isinstance(v, np.ndarray) for v in [*inputs, *outputs]):
                say(name, "refused", "sequences and optional values are no tensors")
                continue
            feed = with_constants(op, model, inputs)
            onnx.save(model, path)
            compiler.stdin.write(f"{path} {artifact}\n")
            compiler.stdin.flush()
            answer = compiler.stdout.readline().strip()
            if not answer:
                say(name, "crash", f"compiler ended with {compiler.wait()}")
                compiler = start()
            elif answer != "ok":
                say(name, "refused", answer.removeprefix("refused ").replace(str(folder), ""))
            else:
                try:
                    graph = Graph(Model(library, artifact))
                    found = graph.run(feed)
                    graph.close()
                    problem = None
                    for port, wanted in zip(model.graph.output, outputs):
                        problem = problem or compare(found[port.name], wanted, 1e-3, 1e-7)
                    say(name, "wrong" if problem else "ok", problem or "")
                    if not problem:
                        passing.add(op)
                except Failure as failure:
                    say(name, "wrong", str(failure))
        compiler.stdin.close()
        compiler.wait()
    print(f"{verdicts['ok']} ok, {verdicts['refused']} refused, {verdicts['wrong']} wrong, {verdicts['crash']} crashed; "
          f"{len(passing)} of {len(OPS)} ops have a case that passes")
    missing = sorted(set(OPS) - passing) if not arguments.only else []
    if missing:
        print("no case passes for: " + " ".join(missing))
    return 1 if verdicts["wrong"] or verdicts["crash"] or not verdicts["ok"] else 0


if __name__ == "__main__":
    sys.exit(main())
