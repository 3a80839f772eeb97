#!/usr/bin/env python3
"""Writes a checkpoint that computes the same function with its channels in another order, so that its weights lie on no quantization grid.

usage: permute_channels.py HF_FOLDER OUT_FOLDER [--onnx MODEL.onnx OUT.onnx] [--seed 7]

A checkpoint recovered from a quantized file lies on that format's grid of 32 columns, and a quantizer with the same groups looks lossless
on it. Permuting the residual stream, each layer's hidden units and each value head mixes the columns of different groups; the function
stays (up to the order of float sums), and so do the weights' natural outliers. Queries and keys keep their rows: rotary positions and
QK norms tie them. With --onnx, a float32 export of HF_FOLDER that holds the weights one by one (as stored, transposed, or norms plus
one, but not q, k, v merged) is rewritten too. Llama's layer names are understood, and those that share them (Qwen, Gemma, ...).
"""
import argparse
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

READS_RESIDUAL = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight", "embed_tokens.weight", "lm_head.weight")
WRITES_RESIDUAL = ("o_proj.weight", "down_proj.weight")
PER_HEAD = ("q_norm.weight", "k_norm.weight")


def permuted(weights: dict, config: dict, seed: int) -> dict:
    """The weights in their new order; every linear is [outputs, inputs]."""
    random = np.random.default_rng(seed)
    residual = random.permutation(config["hidden_size"])
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    out = {}
    for name, weight in weights.items():
        if name.endswith(PER_HEAD):
            out[name] = weight
        elif name.endswith(READS_RESIDUAL):
            out[name] = weight[:, residual]
        elif name.endswith(WRITES_RESIDUAL) or name.endswith("norm.weight"):
            out[name] = weight[residual]
        else:
            raise SystemExit(f"permute_channels: {name} of {list(weight.shape)} is no weight of a Llama-like decoder")
    for layer in range(config["num_hidden_layers"]):
        mlp, attention = f"model.layers.{layer}.mlp.", f"model.layers.{layer}.self_attn."
        units = random.permutation(config["intermediate_size"])
        for name in ("gate_proj", "up_proj"):
            out[f"{mlp}{name}.weight"] = out[f"{mlp}{name}.weight"][units]
        out[mlp + "down_proj.weight"] = out[mlp + "down_proj.weight"][:, units]
        values = [random.permutation(width) for _ in range(groups)]
        rows = np.concatenate([g * width + values[g] for g in range(groups)])
        columns = np.concatenate([h * width + values[h * groups // heads] for h in range(heads)])
        out[attention + "v_proj.weight"] = out[attention + "v_proj.weight"][rows]
        out[attention + "o_proj.weight"] = out[attention + "o_proj.weight"][:, columns]
    return {name: np.ascontiguousarray(weight) for name, weight in out.items()}


def forms(weight: np.ndarray) -> list:
    """How exports store a weight: as it is; a linear for a product from the right; a norm with Gemma's one added."""
    return [weight, np.ascontiguousarray(weight.T)] if weight.ndim == 2 else [weight, weight + np.float32(1)]


def digest(values: np.ndarray) -> tuple:
    return values.shape, hashlib.sha256(values.tobytes()).digest()


def rewrite_onnx(source: Path, target: Path, before: dict, after: dict):
    """Copies the graph with every initializer that is one of the weights replaced by its permuted form."""
    import onnx
    from onnx import numpy_helper

    index = {digest(form): (name, kind) for name, weight in before.items() for kind, form in enumerate(forms(weight))}
    model = onnx.load(source)
    found = set()
    tensors = [*model.graph.initializer, *(a.t for n in model.graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value")]
    for tensor in tensors:
        if tensor.data_type != onnx.TensorProto.FLOAT or not tensor.dims:
            continue
        match = index.get(digest(numpy_helper.to_array(tensor)))
        if match:
            found.add(match[0])
            tensor.CopyFrom(numpy_helper.from_array(forms(after[match[0]])[match[1]], tensor.name))
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    if not moved <= found | {"lm_head.weight"}:
        raise SystemExit(f"permute_channels: {source} does not hold {', '.join(sorted(moved - found)[:4])}; export {target.parent} instead")
    target.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, target, save_as_external_data=True, location=target.name + ".data")
    for extra in source.parent.glob("*.json"):
        shutil.copy(extra, target.parent / extra.name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with config.json and model.safetensors")
    parser.add_argument("target", type=Path, help="folder to write")
    parser.add_argument("--onnx", type=Path, nargs=2, metavar=("MODEL", "OUT"), help="also rewrite this export")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    config = json.loads((args.source / "config.json").read_text())
    before = load_file(args.source / "model.safetensors")
    after = permuted(before, config, args.seed)
    args.target.mkdir(parents=True, exist_ok=True)
    save_file(after, args.target / "model.safetensors", metadata={"format": "pt"})
    for extra in args.source.iterdir():
        if extra.is_file() and extra.name != "model.safetensors":
            shutil.copy(extra, args.target / extra.name)
    if args.onnx:
        rewrite_onnx(*args.onnx, before, after)


if __name__ == "__main__":
    main()
