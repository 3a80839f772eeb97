"""The GGUF exporter on tiny checkpoints: row order of q and k, packing, the permutation, the tokenizer, and what it refuses."""
import contextlib
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path

import gguf
import numpy as np
import onnx
from onnx import numpy_helper
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
import export_gguf  # noqa: E402

HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM, LAYERS, CONTEXT, EPS = 64, 96, 4, 2, 16, 2, 32, 1e-5
SPECIAL = ["<|end|>", "<|start|>"]
MERGES = ["h e", "l l", "he ll", "hell o", "1 2"]


def byte_alphabet() -> list:
    """The 256 characters that byte-level BPE writes bytes as."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in kept]
    return [chr(b) for b in kept] + [chr(256 + i) for i in range(len(rest))]


TOKENS = SPECIAL + byte_alphabet() + [m.replace(" ", "") for m in MERGES]


def random_weights(seed: int, tied: bool) -> dict:
    """Weights by Hugging Face's meaning, each [out, in]."""
    rng = np.random.default_rng(seed)
    make = lambda *shape: rng.standard_normal(shape).astype(np.float32) * 0.1
    q, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    w = {"token_embd": make(len(TOKENS), HIDDEN), "output_norm": 1 + make(HIDDEN)}
    if not tied:
        w["output"] = make(len(TOKENS), HIDDEN)
    for i in range(LAYERS):
        shapes = {"attn_norm": (HIDDEN,), "attn_q": (q, HIDDEN), "attn_k": (kv, HIDDEN), "attn_v": (kv, HIDDEN), "attn_output": (HIDDEN, q),
                  "ffn_norm": (HIDDEN,), "ffn_gate": (FFN, HIDDEN), "ffn_up": (FFN, HIDDEN), "ffn_down": (HIDDEN, FFN)}
        w |= {f"blk.{i}.{name}": make(*shape) for name, shape in shapes.items()}
    return w


def llama_cpp_rows(weight: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's converter does to q and k: interleaves the two halves of each head."""
    return weight.reshape(heads, 2, HEAD_DIM // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path: Path, weights: dict, architecture="llama", tokenizer="gpt2", stored=None):
    """`stored` gives the quantized type of tensors that are not to be kept in float32."""
    out = gguf.GGUFWriter(path, architecture)
    out.add_block_count(LAYERS)
    out.add_embedding_length(HIDDEN)
    out.add_feed_forward_length(FFN)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KV_HEADS)
    out.add_context_length(CONTEXT)
    out.add_layer_norm_rms_eps(EPS)
    out.add_rope_freq_base(10000.0)
    out.add_tokenizer_model(tokenizer)
    out.add_tokenizer_pre("smollm")
    out.add_token_list(TOKENS)
    out.add_token_types([3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)))
    out.add_token_merges(MERGES)
    out.add_bos_token_id(1)
    out.add_eos_token_id(0)
    out.add_chat_template("{{ messages }}")
    for name, weight in weights.items():
        if name.endswith("attn_q") or name.endswith("attn_k"):
            weight = llama_cpp_rows(weight, HEADS if name.endswith("q") else KV_HEADS)
        kind = (stored or {}).get(name)
        out.add_tensor(f"{name}.weight", weight if kind is None else gguf.quants.quantize(weight, kind), raw_dtype=kind)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def export(source: Path, out: Path, *options) -> tuple:
    """The exporter's exit code and what it said."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = export_gguf.main([str(source), str(out), *options])
    return code, said.getvalue()


def initializers(folder: Path) -> dict:
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    return {t.name: numpy_helper.to_array(t, str(folder)) for t in graph.initializer}


def logits(w: dict, ids: list) -> np.ndarray:
    """The exported graph in plain float64: [tokens, vocab]."""
    w = {k: v.astype(np.float64) for k, v in w.items()}
    head = w["lm_head.MatMul.weight"]
    x = (w["model.embed_tokens.weight"] if "model.embed_tokens.weight" in w else head.T)[ids]
    cos, sin = w["cos_cache"][: len(ids), None], w["sin_cache"][: len(ids), None]
    norm = lambda v, g: v / np.sqrt((v * v).mean(-1, keepdims=True) + EPS) * g

    def rotate(v):
        a, b = np.split(v, 2, axis=-1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    for i in range(LAYERS):
        p = f"model.layers.{i}."
        qkv = (norm(x, w[p + "input_layernorm.weight"]) @ w[p + "attn.qkv_proj.MatMul.weight"]).reshape(len(ids), -1, HEAD_DIM)
        q, k, v = np.split(qkv, [HEADS, HEADS + KV_HEADS], axis=1)
        k, v = (np.repeat(t, HEADS // KV_HEADS, axis=1) for t in (rotate(k), v))
        scores = np.einsum("thd,shd->hts", rotate(q), k) / np.sqrt(HEAD_DIM) + np.triu(np.full((len(ids),) * 2, -np.inf), 1)
        p_attention = np.exp(scores - scores.max(-1, keepdims=True))
        p_attention /= p_attention.sum(-1, keepdims=True)
        x = x + np.einsum("hts,shd->thd", p_attention, v).reshape(len(ids), -1) @ w[p + "attn.o_proj.MatMul.weight"]
        h = norm(x, w[p + "post_attention_layernorm.weight"])
        gate = h @ w[p + "mlp.gate_proj.MatMul.weight"]
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w[p + "mlp.up_proj.MatMul.weight"])) @ w[p + "mlp.down_proj.MatMul.weight"]
    return norm(x, w[f"model.layers.{LAYERS}.final_norm_layernorm.weight"]) @ head


class ExportTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def exported(self, weights: dict, *options) -> Path:
        write_gguf(self.folder / "m.gguf", weights)
        out = self.folder / f"out{'_'.join(options)}"
        self.assertEqual(export(self.folder / "m.gguf", out, *options), (0, ""))
        return out

    def refused(self, expected: str, weights: dict, **how):
        write_gguf(self.folder / "m.gguf", weights, **how)
        code, said = export(self.folder / "m.gguf", self.folder / "out")
        self.assertEqual(code, 1)
        self.assertIn(expected, said)
        self.assertEqual(list((self.folder / "out").glob("model*")), [], "a refused export must leave no model")

    def test_weights_arrive_where_they_belong(self):
        w = random_weights(1, tied=True)
        out = initializers(self.exported(w))
        packed = np.concatenate([w["blk.1.attn_q"], w["blk.1.attn_k"], w["blk.1.attn_v"]]).T
        np.testing.assert_array_equal(out["model.layers.1.attn.qkv_proj.MatMul.weight"], packed)
        np.testing.assert_array_equal(out["model.layers.0.mlp.down_proj.MatMul.weight"], w["blk.0.ffn_down"].T)
        np.testing.assert_array_equal(out["lm_head.MatMul.weight"], w["token_embd"].T)
        self.assertNotIn("model.embed_tokens.weight", out)
        angle = 3 / 10000 ** (2 / HEAD_DIM)
        self.assertAlmostEqual(float(out["cos_cache"][3, 1]), np.cos(angle), places=6)
        self.assertAlmostEqual(float(out["sin_cache"][3, 1]), np.sin(angle), places=6)

    def test_untied_head_is_its_own_weight(self):
        w = random_weights(2, tied=False)
        out = initializers(self.exported(w))
        np.testing.assert_array_equal(out["lm_head.MatMul.weight"], w["output"].T)
        np.testing.assert_array_equal(out["model.embed_tokens.weight"], w["token_embd"])

    def test_permutation_moves_weights_and_keeps_the_function(self):
        for tied in (True, False):
            w = random_weights(3, tied)
            plain, permuted = initializers(self.exported(w)), initializers(self.exported(w, "--permute", "7"))
            name = "model.layers.0.mlp.up_proj.MatMul.weight"
            self.assertFalse(np.array_equal(plain[name], permuted[name]))
            np.testing.assert_array_equal(np.sort(plain[name], axis=None), np.sort(permuted[name], axis=None))
            ids = [5, 9, 200, 31, 7, 7]
            np.testing.assert_allclose(logits(permuted, ids), logits(plain, ids), atol=1e-9)

    def test_quantized_tensors_are_dequantized(self):
        w = random_weights(4, tied=True)
        kinds = {"blk.0.ffn_up": gguf.GGMLQuantizationType.Q4_0, "blk.1.ffn_up": gguf.GGMLQuantizationType.Q8_0}
        on_grid = {n: gguf.quants.dequantize(gguf.quants.quantize(w[n], k), k) for n, k in kinds.items()}
        expected = initializers(self.exported(w | on_grid))
        write_gguf(self.folder / "q.gguf", w, stored=kinds)
        self.assertEqual(export(self.folder / "q.gguf", self.folder / "quantized"), (0, ""))
        found = initializers(self.folder / "quantized")
        for name in ("model.layers.0.mlp.up_proj.MatMul.weight", "model.layers.1.mlp.up_proj.MatMul.weight"):
            np.testing.assert_array_equal(found[name], expected[name])

    def test_tokenizer_and_configuration(self):
        out = self.exported(random_weights(5, tied=True))
        tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
        self.assertEqual(tokenizer.encode("hello<|end|>").tokens, ["hello", "<|end|>"])
        self.assertEqual(tokenizer.encode("12").tokens, ["1", "2"], "digits stand alone, whatever the merges say")
        text = "hello, wörld\n\t 12 日本"
        self.assertEqual(tokenizer.decode(tokenizer.encode(text).ids), text)
        self.assertEqual(json.loads((out / "generation_config.json").read_text()), {"bos_token_id": 1, "eos_token_id": 0})
        self.assertEqual(json.loads((out / "tokenizer_config.json").read_text())["chat_template"], "{{ messages }}")
        self.assertEqual(json.loads((out / "config.json").read_text())["num_key_value_heads"], KV_HEADS)

    def test_graph_names_and_shapes(self):
        graph = onnx.load(self.exported(random_weights(6, tied=True)) / "model.onnx", load_external_data=False).graph
        attention = [n for n in graph.node if n.op_type == "GroupQueryAttention"]
        self.assertEqual(len(attention), LAYERS)
        self.assertEqual(attention[1].input[3], "past_key_values.1.key")
        self.assertEqual(attention[1].output[2], "present.1.value")
        self.assertEqual([i.name for i in graph.input][:3], ["input_ids", "attention_mask", "past_key_values.0.key"])
        produced = {o for n in graph.node for o in n.output} | {i.name for i in graph.input} | {t.name for t in graph.initializer} | {""}
        self.assertEqual([i for n in graph.node for i in n.input if i not in produced], [])

    def test_refusals(self):
        w = random_weights(7, tied=True)
        self.refused("architecture 'qwen2', expected 'llama'", w, architecture="qwen2")
        self.refused("kind 'bert', expected 'gpt2'", w, tokenizer="bert")
        self.refused("tensors that a plain Llama model does not: blk.0.attn_q.bias", w | {"blk.0.attn_q.bias": np.zeros(64, np.float32)})
        self.refused("no tensor 'blk.1.ffn_up.weight'", {k: v for k, v in w.items() if k != "blk.1.ffn_up"})
        self.refused("'blk.0.ffn_up.weight' has shape [90, 64], expected [96, 64]", w | {"blk.0.ffn_up": w["blk.0.ffn_up"][:90]})

    def test_source_that_is_no_gguf(self):
        self.assertIn("there is no file", export(self.folder / "none.gguf", self.folder / "out")[1])
        (self.folder / "text.gguf").write_text("not a model at all, but long enough for a header of some kind")
        code, said = export(self.folder / "text.gguf", self.folder / "out")
        self.assertEqual(code, 1)
        self.assertIn("is not a GGUF file that can be read", said)


if __name__ == "__main__":
    unittest.main()
