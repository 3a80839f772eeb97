#!/usr/bin/env python3
"""Writes a Llama-shaped model with random float32 weights of any size, in the form of onnxruntime-genai's builder.

    make_large.py FOLDER [--shape llama-3.2-1b] [--repeat] [--period N]

The weights go to model.onnx.data as they are made, so that no size needs more memory than one matrix. With --repeat, matrices of one
size lie in one place of it: 8 billion parameters are then a file of 3 GB, and cost the compiler and the runtime what others cost. With
--period, output channel i of a matrix has the weights of channel i % N: the artifact is as large as others, and small once compressed.
"""
import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper


@dataclass
class Shape:
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    inner: int
    vocabulary: int
    base: float
    tied: bool


SHAPES = {
    "llama-3.2-1b": Shape(16, 2048, 32, 8, 64, 8192, 128256, 500000.0, True),
    "llama-3.1-8b": Shape(32, 4096, 32, 8, 128, 14336, 128256, 500000.0, False),
    "small": Shape(2, 256, 4, 2, 64, 512, 1024, 10000.0, True),  # what tests/bench/count_instructions.py counts
    "smollm2-135m": Shape(30, 576, 9, 3, 64, 1536, 49152, 100000.0, True),
}
POSITIONS = 4096


class Writer:
    def __init__(self, folder, repeat, period):
        self.repeat, self.period, self.places = repeat, period, {}
        self.data = open(folder / "model.onnx.data", "wb")
        self.initializers, self.nodes = [], []
        self.random = np.random.default_rng(1)

    def add(self, name, values):
        """Appends an array to the data file, on a page of its own as exporters do."""
        self.data.seek((self.data.tell() + 4095) // 4096 * 4096)
        self.declare(name, values.shape, self.data.tell())
        values.tofile(self.data)
        return name

    def declare(self, name, shape, offset):
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape,
                             data_location=TensorProto.EXTERNAL)
        for key, value in (("location", "model.onnx.data"), ("offset", offset), ("length", 4 * int(np.prod(shape)))):
            tensor.external_data.add(key=key, value=str(value))
        self.initializers.append(tensor)

    def matrix(self, name, rows, cols, channels=1):
        """`channels`: the axis of output channels."""
        if self.repeat and rows * cols in self.places:
            self.declare(name, (rows, cols), self.places[rows * cols])
            return name
        self.places[rows * cols] = (self.data.tell() + 4095) // 4096 * 4096
        drawn = [rows, cols]
        drawn[channels] = min(self.period or drawn[channels], drawn[channels])
        values = self.random.standard_normal(drawn, np.float32) * np.float32(rows**-0.5)
        if drawn != [rows, cols]:
            values = values.take(np.arange((rows, cols)[channels]) % self.period, axis=channels)
        return self.add(name, values)

    def node(self, op, inputs, outputs, domain="", **attributes):
        name = outputs[0].rsplit("/", 1)[0]
        self.nodes.append(helper.make_node(op, inputs, outputs, name=name, domain=domain, **attributes))
        return outputs[0]

    def linear(self, x, name, rows, cols):
        return self.node("MatMul", [x, self.matrix(name + ".weight", rows, cols)], [f"/{name}/output_0"])


def add_lengths(writer):
    """seqlens_k and total_sequence_length of GroupQueryAttention from the mask."""
    for name, value in (("one", [1]), ("axis", 1)):
        writer.initializers.append(onnx.numpy_helper.from_array(np.array(value, np.int64), name))
    total = writer.node("ReduceSum", ["attention_mask", "one"], ["/mask/sum/output_0"], keepdims=0)
    last = writer.node("Sub", [total, "one"], ["/mask/last/output_0"])
    shape = writer.node("Shape", ["attention_mask"], ["/mask/shape/output_0"])
    length = writer.node("Gather", [shape, "axis"], ["/mask/length/output_0"], axis=0)
    return [writer.node("Cast", [value], [f"/mask/{name}/output_0"], to=TensorProto.INT32)
            for name, value in (("lengths", last), ("total", length))]


def add_layer(writer, shape, layer, x, skip, lengths):
    """One block; x is the norm's result, skip the residual. Returns the same of the next block."""
    at, eps = f"model.layers.{layer}", 1e-5
    width = shape.heads * shape.head_size
    qkv = writer.linear(x, f"{at}.attn.qkv_proj", shape.hidden, width + 2 * shape.kv_heads * shape.head_size)
    y = writer.node("GroupQueryAttention",
                    [qkv, "", "", f"past_key_values.{layer}.key", f"past_key_values.{layer}.value", *lengths,
                     "cos_cache", "sin_cache"],
                    [f"/{at}/attention/output_0", f"present.{layer}.key", f"present.{layer}.value"], "com.microsoft",
                    num_heads=shape.heads, kv_num_heads=shape.kv_heads, scale=shape.head_size**-0.5, do_rotary=1)
    y = writer.linear(y, f"{at}.attn.o_proj", width, shape.hidden)
    ones = np.ones(shape.hidden, np.float32)

    def norm(name, y):
        return [writer.node("SkipSimplifiedLayerNormalization", [skip, y, writer.add(name, ones)],
                            [f"/{name}/output_0", "", "", f"/{name}/output_3"], "com.microsoft", epsilon=eps),
                f"/{name}/output_3"]

    x, skip = norm(f"{at}.post_attention_layernorm.weight", y)
    gate = writer.linear(x, f"{at}.mlp.gate_proj", shape.hidden, shape.inner)
    up = writer.linear(x, f"{at}.mlp.up_proj", shape.hidden, shape.inner)
    sigmoid = writer.node("Sigmoid", [gate], [f"/{at}/sigmoid/output_0"])
    silu = writer.node("Mul", [gate, sigmoid], [f"/{at}/silu/output_0"])
    y = writer.linear(writer.node("Mul", [silu, up], [f"/{at}/product/output_0"]), f"{at}.mlp.down_proj", shape.inner,
                      shape.hidden)
    return norm(f"model.layers.{layer + 1}.input_layernorm.weight", y)


def make(folder, shape, repeat, period):
    folder.mkdir(parents=True, exist_ok=True)
    writer = Writer(folder, repeat, period)
    angles = np.outer(np.arange(POSITIONS), shape.base ** (-np.arange(0, shape.head_size, 2) / shape.head_size))
    writer.add("cos_cache", np.cos(angles).astype(np.float32))
    writer.add("sin_cache", np.sin(angles).astype(np.float32))
    table = writer.matrix("model.embed_tokens.weight", shape.vocabulary, shape.hidden, channels=0)
    lengths = add_lengths(writer)
    skip = writer.node("Gather", [table, "input_ids"], ["/embedding/output_0"])
    first = writer.add("model.layers.0.input_layernorm.weight", np.ones(shape.hidden, np.float32))
    x = writer.node("SimplifiedLayerNormalization", [skip, first], ["/norm/output_0"], epsilon=1e-5, axis=-1,
                    stash_type=1)
    for layer in range(shape.layers):
        x, skip = add_layer(writer, shape, layer, x, skip, lengths)
    if shape.tied:
        head = writer.node("Transpose", [table], ["/head/weight/output_0"], perm=[1, 0])
    else:
        head = writer.matrix("lm_head.weight", shape.hidden, shape.vocabulary)
    writer.node("MatMul", [x, head], ["logits"])

    def cache(name, length):
        return [helper.make_tensor_value_info(name.format(layer, kind), TensorProto.FLOAT,
                                              ["batch_size", shape.kv_heads, length, shape.head_size])
                for layer in range(shape.layers) for kind in ("key", "value")]

    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"]),
              helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch_size", "total_sequence_length"]),
              *cache("past_key_values.{}.{}", "past_sequence_length")]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT,
                                             ["batch_size", "sequence_length", shape.vocabulary]),
               *cache("present.{}.{}", "total_sequence_length")]
    graph = helper.make_graph(writer.nodes, "main_graph", inputs, outputs, writer.initializers)
    model = helper.make_model(graph, producer_name="smelt make_large", ir_version=10,
                              opset_imports=[helper.make_opsetid("", 22), helper.make_opsetid("com.microsoft", 1)])
    writer.data.close()
    onnx.save(model, folder / "model.onnx")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="llama-3.2-1b")
    parser.add_argument("--repeat", action="store_true", help="matrices of one size share their weights in the file")
    parser.add_argument("--period", type=int, default=0, metavar="N", help="output channels whose weights are not repeated; 0: all")
    arguments = parser.parse_args()
    make(arguments.folder, SHAPES[arguments.shape], arguments.repeat, arguments.period)


if __name__ == "__main__":
    main()
