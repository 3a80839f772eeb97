"""Golden outputs: the float64 torch model without cache or padding, and onnxruntime on the graph itself, step by step."""
import os

import numpy as np
import onnx
import torch

import architectures
import scenarios

SLIDING_WINDOW = 4  # the value of every `_sliding_window_tensor` input
NUMPY = {onnx.TensorProto.FLOAT: np.float32, onnx.TensorProto.FLOAT16: np.float16, onnx.TensorProto.INT64: np.int64,
         onnx.TensorProto.INT32: np.int32, onnx.TensorProto.BOOL: np.bool_, onnx.TensorProto.DOUBLE: np.float64}


class Reference:
    """Float64 torch outputs of one model: row by row, the whole sequence at once, so that no mask or cache is involved."""

    def __init__(self, root, name):
        self.name = name
        torch.manual_seed(0)
        experts = {"experts_implementation": "eager"} if architectures.modern() else {}  # the others have no float64
        self.model = architectures.load(root, name, dtype=torch.float64, attn_implementation="eager", **experts).double()
        self.kind = architectures.kind(name)
        self.pad = self.model.config.pad_token_id or 0
        self.scenarios = scenarios.scenarios(name, self.kind, self.pad)
        self.rows = {}

    def evaluate(self, token_types):
        """Runs every row of every scenario; `token_types` says whether the graph has that input (else all zero)."""
        for s in self.scenarios:
            self.rows[s.name] = [self.row(tokens, types if token_types else None) for tokens, types in zip(s.rows, s.types)]

    def embed(self, ids):
        return self.model.get_input_embeddings()(torch.tensor(ids)).detach().numpy()

    def row(self, tokens, types):
        ids = torch.tensor(tokens)[None]
        with torch.no_grad():
            if self.kind == "decoder":
                out = self.model(input_ids=ids, use_cache=False, output_hidden_states=True)
                return {"logits": out.logits[0].numpy(), "hidden_states": out.hidden_states[-1][0].numpy()}
            extra = {}
            if types is not None:
                extra["token_type_ids"] = torch.tensor(types)[None]
            out = self.model(input_ids=ids, attention_mask=torch.ones_like(ids), **extra)
        if "logits" in out:
            return {"logits": out.logits[0].numpy()}
        hidden = out.last_hidden_state[0]
        mean = hidden.mean(0)
        both = {"last_hidden_state": hidden, "token_embeddings": hidden, "sentence_embedding": mean / mean.norm()}
        if getattr(out, "pooler_output", None) is not None:
            both["pooler_output"] = out.pooler_output[0]
        return {k: v.numpy() for k, v in both.items()}

    def step(self, scenario, step, output, shape):
        """The golden of one output laid out like the graph's (padded rows zero), and which rows count; None if unknown."""
        rows = [r.get(output) for r in self.rows[scenario.name]]
        if any(r is None for r in rows):
            return None, None
        if rows[0].ndim == 1 or len(shape) == 2:
            return np.stack(rows), np.ones(len(rows), bool)
        if shape[1] == 1 < step.where.shape[1]:  # a pruned head: the last column alone
            return np.stack([r[w[-1]] for r, w in zip(rows, step.where)])[:, None], step.where[:, -1:] >= 0
        if shape[1] != step.where.shape[1]:
            return None, None
        value = np.zeros((*step.where.shape, rows[0].shape[-1]))
        for r, row in enumerate(rows):
            valid = step.where[r] >= 0
            value[r, valid] = row[step.where[r][valid]]
        return value, step.where >= 0


def session(path, optimize=False, **config):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    for key, value in config.items():
        options.add_session_config_entry(key.replace("__", "."), value)
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def state_output(name, outputs):
    """The graph output that a state input is fed from at the next step."""
    for old, new in (("past_key_values", "present"), ("past.", "present."), ("input.", "output.")):
        if name.startswith(old) and name.replace(old, new, 1) in outputs:
            return name.replace(old, new, 1)
    if name.startswith("past_") and "present_" + name[5:] in outputs:
        return "present_" + name[5:]
    raise ValueError(f"no output continues the state input {name}")


class Graph:
    """One exported graph under onnxruntime: knows its data inputs, its state and the state's first value."""

    def __init__(self, path, head_size=None, capacity=0, embed=None, **options):
        self.session = session(path, **options)
        self.head_size, self.capacity, self.embed = head_size, capacity, embed
        self.inputs = {i.name: i for i in self.session.get_inputs()}
        self.outputs = [o.name for o in self.session.get_outputs()]
        self.state = {n: state_output(n, self.outputs) for n in self.inputs if n.startswith(("past", "input."))}
        self.data = [n for n in self.inputs if n not in self.state]

    def dtype(self, name):
        types = {"float": np.float32, "float16": np.float16, "int64": np.int64, "int32": np.int32, "bool": np.bool_}
        return types[self.inputs[name].type[7:-1]]

    def first_state(self, name, batch):
        shape = self.inputs[name].shape
        if not shape:
            return np.array(SLIDING_WINDOW, self.dtype(name))
        past = self.capacity if "sliding" in str(shape) else 0  # a ring buffer has a fixed size
        dims = [d if isinstance(d, int) else None for d in shape]
        dims[0] = batch
        if len(dims) == 4 and dims[3] is None:
            dims[3] = self.head_size
        return np.zeros([past if d is None else d for d in dims], self.dtype(name))

    def feed(self, step):
        """The data inputs of one step."""
        every = {"input_ids": step.ids, "attention_mask": step.mask, "position_ids": step.positions, "token_type_ids": step.types}
        every.update(step.extra)
        if "inputs_embeds" in self.data:
            every["inputs_embeds"] = self.embed(step.ids)
        return {n: every[n].astype(self.dtype(n)) for n in self.data}

    def run(self, scenario):
        """The outputs of every step; states go from step to step."""
        state = {n: self.first_state(n, len(scenario.rows)) for n in self.state}
        steps = []
        for step in scenario.steps:
            steps.append(dict(zip(self.outputs, self.session.run(None, {**self.feed(step), **state}))))
            # The cross-attention cache is made at the first step and stays; later steps give an empty one.
            state = {n: state[n] if ".encoder." in n and len(steps) > 1 else steps[-1][o] for n, o in self.state.items()}
        return steps


def compared(out):
    """The outputs that a golden is kept for at every step: everything but state."""
    return [n for n in out if not n.startswith(("present", "output."))]
