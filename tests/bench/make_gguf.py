#!/usr/bin/env python3
"""Writes a Llama-shaped GGUF with random weights, for speed only: what tests/exports/make_large.py is to smelt, this is to llama.cpp.

usage: make_gguf.py FILE.gguf [--shape llama-3.2-1b|llama-3.1-8b] [--period N]      (with the Python of ~/.cache/smelt/peers/exporters)

The linears are Q4_0 and the embedding and head Q6_K, as llama.cpp itself quantizes such a model to Q4_0; bytes are random, scales small
enough that no activation overflows. Matrix after matrix goes to the file, so that no size needs more memory than one of them. With
--period, row i of a matrix is row i % N, as in make_large.py.
"""
import argparse
import sys
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter, TokenType

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "exports"))
from make_large import POSITIONS, SHAPES  # noqa: E402

Q4_0, Q6_K = GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q6_K
HALF = {Q4_0: slice(0, 2), Q6_K: slice(208, 210)}  # where a block's float16 scale lies
SCALE_CODES = {Q6_K: slice(192, 208)}              # signed 8-bit scales of a block


def random_matrix(random, kind, rows: int, cols: int) -> np.ndarray:
    """[rows, bytes of a row] of blocks with values of about 1 / sqrt(cols)."""
    block, size = GGML_QUANT_SIZES[kind]
    data = random.integers(0, 256, (rows, cols // block, size), np.uint8)
    scale = np.float16(cols**-0.5 / (4 if kind == Q4_0 else 16 * 8))
    data[:, :, HALF[kind]] = np.frombuffer(scale.tobytes(), np.uint8)
    if kind in SCALE_CODES:
        data[:, :, SCALE_CODES[kind]] = 8
    return data.reshape(rows, -1)


def matrices(shape):
    """Name, kind, rows and columns of every matrix, in the order of the file."""
    width, kv = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    yield "token_embd.weight", Q6_K, shape.vocabulary, shape.hidden
    if not shape.tied:
        yield "output.weight", Q6_K, shape.vocabulary, shape.hidden
    for layer in range(shape.layers):
        at = f"blk.{layer}."
        yield from ((at + name + ".weight", Q4_0, rows, cols) for name, rows, cols in (
            ("attn_q", width, shape.hidden), ("attn_k", kv, shape.hidden), ("attn_v", kv, shape.hidden),
            ("attn_output", shape.hidden, width), ("ffn_gate", shape.inner, shape.hidden),
            ("ffn_up", shape.inner, shape.hidden), ("ffn_down", shape.hidden, shape.inner)))


def describe(writer, shape):
    writer.add_name("random weights")
    writer.add_context_length(POSITIONS)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(shape.base)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"t{i}" for i in range(shape.vocabulary)])
    writer.add_token_types([TokenType.NORMAL] * shape.vocabulary)
    writer.add_token_merges(["t 0"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="llama-3.2-1b")
    parser.add_argument("--period", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    shape, random = SHAPES[arguments.shape], np.random.default_rng(1)
    partial = arguments.file.with_suffix(".partial")
    writer = GGUFWriter(partial, "llama")
    describe(writer, shape)
    norms = [f"blk.{layer}.{name}.weight" for layer in range(shape.layers) for name in ("attn_norm", "ffn_norm")]
    ones = np.ones(shape.hidden, np.float32)
    for name in ["output_norm.weight", *norms]:
        writer.add_tensor_info(name, ones.shape, ones.dtype, ones.nbytes)
    for name, kind, rows, cols in matrices(shape):
        block, size = GGML_QUANT_SIZES[kind]
        writer.add_tensor_info(name, (rows, cols // block * size), np.dtype(np.uint8), rows * cols // block * size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _ in range(1 + len(norms)):
        writer.write_tensor_data(ones)
    for name, kind, rows, cols in matrices(shape):
        drawn = random_matrix(random, kind, min(arguments.period or rows, rows), cols)
        writer.write_tensor_data(drawn if len(drawn) == rows else drawn[np.arange(rows) % len(drawn)])
    writer.close()
    partial.rename(arguments.file)


if __name__ == "__main__":
    main()
