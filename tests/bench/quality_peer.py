#!/usr/bin/env python3
"""The peers' side of compare_quality.py, run in their environments: one step a call, each prints its result as JSON on its last line.

usage: quality_peer.py STEP ARGUMENTS...     the steps are the functions of STEPS below, all their arguments are strings
"""
import ctypes
import json
import sys
from pathlib import Path

import numpy as np

CONTEXT = 512  # tokens of a window; the predictions of its second half are scored, as llama.cpp's perplexity tool does
THREADS = 2
AT_ONCE = 8  # windows of the base's logits in memory: 8 x 255 rows of 262,144 words are 2.1 GB


# Texts

def tokens(hf: str, text: str, out: str, windows: str):
    """Cuts a text into windows of CONTEXT tokens, the first of each replaced by BOS where the model wants one: int32 [windows, CONTEXT]."""
    from tokenizers import Tokenizer

    settings = json.loads((Path(hf) / "tokenizer_config.json").read_text())
    ids = Tokenizer.from_file(str(Path(hf) / "tokenizer.json")).encode(Path(text).read_text()).ids
    bos = json.loads((Path(hf) / "config.json").read_text()).get("bos_token_id") if settings.get("add_bos_token") else None
    if bos is not None and ids[0] != bos:
        ids.insert(0, bos)
    count = min(len(ids) // CONTEXT, int(windows) or len(ids))
    if count == 0:
        raise SystemExit(f"{text} has {len(ids)} tokens, which is less than a window of {CONTEXT}")
    cut = np.array(ids[:count * CONTEXT], np.int32).reshape(count, CONTEXT)
    if bos is not None:
        cut[:, 0] = bos
    np.save(out, cut)
    return {"windows": count}


# Weights

def _rotated(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from (first half, second half) to llama.cpp's interleaved pairs, for architectures that rotate those."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def _name_map(arch: str, layers: int):
    import gguf

    key = next(k for k, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    return gguf.get_tensor_name_map(key, layers)


def gguf_float(hf: str, template: str, out: str):
    """Writes the HF folder's weights in float32 with metadata and tokenizer of a GGUF of the same architecture."""
    import gguf
    from safetensors import safe_open

    config = json.loads((Path(hf) / "config.json").read_text())
    reader = gguf.GGUFReader(template)
    arch = reader.fields["general.architecture"].contents()
    names = _name_map(arch, config["num_hidden_layers"])
    writer = gguf.GGUFWriter(out, arch)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type", "general.quantization_version"):
            continue
        writer.add_key_value(key, field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    expected = {t.name for t in reader.tensors}
    with safe_open(Path(hf) / "model.safetensors", "np") as weights:
        for source in weights.keys():
            name = names.get_name(source, try_suffixes=(".weight", ".bias"))
            if name not in expected:  # a head that repeats the tied embedding
                continue
            expected.remove(name)
            weight = weights.get_tensor(source).astype(np.float32)
            if arch.startswith("gemma") and source.endswith("norm.weight"):
                weight = weight + np.float32(1)  # GGUF holds the factor itself
            elif arch == "llama" and source.endswith(("q_proj.weight", "k_proj.weight")):
                weight = _rotated(weight, config["num_attention_heads" if "q_proj" in source else "num_key_value_heads"])
            writer.add_tensor(name, np.ascontiguousarray(weight))
    if expected:
        raise SystemExit(f"{hf} has no weights for {', '.join(sorted(expected)[:4])} of {template}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {"architecture": arch}


def importance(hf: str, windows: str, template: str, out: str):
    """Mean square of every input channel of every linear over the windows, by GGUF name, as llama.cpp's imatrix tool collects it."""
    import gguf
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(THREADS)
    model = AutoModelForCausalLM.from_pretrained(hf, dtype=torch.float32).eval()
    arch = gguf.GGUFReader(template).fields["general.architecture"].contents()
    names = _name_map(arch, model.config.num_hidden_layers)
    sums, count = {}, 0

    def hook(name):
        def add(_, inputs):
            sums[name] = sums.get(name, 0) + inputs[0].double().square().sum((0, 1))
        return add

    for path, module in model.model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(hook(names.get_name(f"model.{path}") + ".weight"))
    with torch.no_grad():
        for window in np.load(windows):
            model.model(input_ids=torch.from_numpy(window[None].astype(np.int64)), use_cache=False)  # the head has no matrix there either
            count += len(window)
    np.savez(out, **{name: (total / count).float().numpy() for name, total in sums.items()})
    return {"tensors": len(sums), "tokens": count}


def llama_quantize(source: str, target: str, kind: str, matrix: str):
    """llama.cpp's file of the named kind with the importance matrix."""
    import llama_cpp.llama_cpp as api

    _quiet(api)
    options = api.llama_model_quantize_default_params()
    options.ftype, options.nthread = getattr(api, f"LLAMA_FTYPE_MOSTLY_{kind}"), THREADS
    kept = {name.encode(): values for name, values in np.load(matrix).items()}
    entries = (api.llama_model_imatrix_data * (len(kept) + 1))()  # one without a name ends the list
    for entry, (name, values) in zip(entries, kept.items()):
        entry.name, entry.size, entry.data = name, values.size, values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    options.imatrix = ctypes.cast(entries, type(options.imatrix))
    if api.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(options)) != 0:
        raise SystemExit(f"llama_model_quantize to {kind} failed")
    return {"bytes": Path(target).stat().st_size}


def ort_quantize(source: str, target: str, bits: str):
    """A folder made by onnxruntime's quantizer with what onnxruntime-genai's builder asks of it by default: symmetric blocks of 32, embedding and head too."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(onnx.load(source), bits=int(bits), block_size=32, is_symmetric=True, accuracy_level=4,
                                     op_types_to_quantize=("MatMul", "Gather"))
    quantizer.process()
    folder = Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    quantizer.model.save_model_to_file(str(folder / "model.onnx"), True)
    return {"bytes": sum(f.stat().st_size for f in folder.iterdir())}


# Scores

def _quiet(api):
    _quiet.callback = api.llama_log_callback(lambda level, text, data: None)
    api.llama_log_set(_quiet.callback, None)


class _Llama:
    """llama.cpp in its default setting: one window is one batch, float16 cache."""

    def __init__(self, path: str):
        import llama_cpp.llama_cpp as api

        self.api = api
        _quiet(api)
        api.llama_backend_init()
        self.model = api.llama_model_load_from_file(path.encode(), api.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"llama.cpp does not load {path}")
        options = api.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = CONTEXT
        options.n_threads = options.n_threads_batch = THREADS
        self.context = api.llama_init_from_model(self.model, options)
        self.vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model))
        self.batch = api.llama_batch_init(CONTEXT, 0, 1)

    def logits(self, window: np.ndarray) -> np.ndarray:
        fed, batch = window[:-1], self.batch
        batch.n_tokens = len(fed)
        for i, token in enumerate(fed):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = int(token), i, 1, 0
            batch.logits[i] = i >= CONTEXT // 2
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        if self.api.llama_decode(self.context, batch) != 0:
            raise SystemExit("llama_decode failed")
        rows = len(fed) - CONTEXT // 2
        return np.ctypeslib.as_array(self.api.llama_get_logits(self.context), (rows, self.vocabulary))

    def close(self):
        self.api.llama_batch_free(self.batch)
        self.api.llama_free(self.context)
        self.api.llama_model_free(self.model)


class _Onnxruntime:
    """A decoder's graph with an empty cache."""

    TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}

    def __init__(self, path: str, head_dim: int):
        import onnxruntime

        self.head_dim = head_dim

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = THREADS, 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def logits(self, window: np.ndarray) -> np.ndarray:
        fed = window[None, :-1].astype(np.int64)
        given = {"input_ids": fed, "attention_mask": np.ones_like(fed), "position_ids": np.arange(fed.shape[1])[None]}
        feeds = {}
        for i in self.session.get_inputs():  # of an empty cache, batch is 1 and positions are 0; exporters do not number all dimensions
            empty = [n if isinstance(n, int) else (1, 0, 0, self.head_dim)[axis] for axis, n in enumerate(i.shape)]
            feeds[i.name] = given[i.name] if i.name in given else np.zeros(empty, self.TYPES[i.type])
        return self.session.run(["logits"], feeds)[0][0, CONTEXT // 2:]

    def close(self):
        self.session = None


ENGINES = {"llama": lambda path, head_dim: _Llama(path), "ort": _Onnxruntime}


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """In float32 with sums in float64: its error is some 1e-6 nats a word, and averages out."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True, dtype=np.float64)).astype(np.float32)


def _compare(base: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[rows, 4]: KL divergence in nats of the logits from the base's log probabilities, negative log likelihood of base and of ours, same top."""
    rows = np.empty((len(labels), 4))
    for start in range(0, len(labels), 16):  # in caches: a vocabulary can have a quarter of a million words
        part = slice(start, start + 16)
        p, q, picked = base[part], _log_softmax(logits[part]), labels[part, None]
        rows[part, 0] = (np.exp(p) * (p - q)).sum(-1, dtype=np.float64)
        rows[part, 1] = -np.take_along_axis(p, picked, -1)[:, 0]
        rows[part, 2] = -np.take_along_axis(q, picked, -1)[:, 0]
        rows[part, 3] = p.argmax(-1) == q.argmax(-1)
    return rows


def score(engine: str, windows: str, head_dim: str, base: str, *candidates: str):
    """Each candidate's distance from the base model, both run by the engine; a few windows of the base are in memory at a time."""
    open_model = lambda path: ENGINES[engine](path, int(head_dim))
    cut, found = np.load(windows), {path: [] for path in candidates}
    for start in range(0, len(cut), AT_ONCE):
        part = cut[start:start + AT_ONCE]
        model = open_model(base)
        reference = [_log_softmax(model.logits(w)) for w in part]
        model.close()
        for path in candidates:
            model = open_model(path)
            found[path] += [_compare(r, model.logits(w), w[CONTEXT // 2 + 1:].astype(np.int64)) for r, w in zip(reference, part)]
            model.close()
    return {path: summary(np.concatenate(rows)) for path, rows in found.items()}


def summary(rows: np.ndarray) -> dict:
    return {"tokens": len(rows), "kl": rows[:, 0].mean(), "kl_error": rows[:, 0].std() / len(rows) ** 0.5, "kl_99": np.quantile(rows[:, 0], 0.99),
            "base_perplexity": np.exp(rows[:, 1].mean()), "ratio": np.exp((rows[:, 2] - rows[:, 1]).mean()), "same_top": rows[:, 3].mean()}


STEPS = {f.__name__: f for f in (tokens, gguf_float, importance, llama_quantize, ort_quantize, score)}

if __name__ == "__main__":
    print(json.dumps(STEPS[sys.argv[1]](*sys.argv[2:])))
