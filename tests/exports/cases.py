"""Cases of ../shared/exports and of our own corpus: scenarios, steps, states, ragged batches and tolerances.

A case is a folder with model.onnx, inputs.npz (`<scenario>/step<k>/<input>`), golden.npz (`<scenario>/step<k>/<output>` and
`<scenario>/final/<state output>`) and case.json.
"""
import fnmatch
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

FLOAT_ACTIVATIONS = "@fp32_activations"
SLIDING_WINDOW = 4  # the value of every `_sliding_window_tensor`
STATE_NAMES = (("past_key_values", "present"), ("past_", "present_"), ("past", "present"), ("input.", "output."))

# Largest error that is right. "absolute": of float32 graphs, whose logits deviate by 0.5 to 9. The others are shares of the
# standard deviation of what is compared; "rms" compares the root of the mean square instead of the largest error.
FLOAT = ("absolute", 1e-4)
FLOAT_ACTIVATIONS_OF_QUANTIZED = ("share", 1e-3)
# Goldens of onnxruntime's integer arithmetic, which rounds activations to 8 bits: that noise alone is 2 to 3 % as a root mean
# square (and 8 to 11 % in the largest of thousands of logits, which is why the largest is not compared).
INTEGER_ACTIVATIONS = ("rms", 0.05)
QUANTIZED_OPS = {"DequantizeLinear", "DynamicQuantizeLinear", "GatherBlockQuantized", "MatMulInteger", "MatMulNBits", "QLinearMatMul",
                 "QuantizeLinear"}
HALF = ("share", 0.02)  # onnxruntime rounds every value to 11 (float16) or 8 (bfloat16) bits, we do not


@dataclass
class Tolerance:
    kind: str
    bound: float


class Case:
    def __init__(self, folder):
        self.folder = Path(folder)

    @property
    def model(self):
        return self.folder / "model.onnx"

    @cached_property
    def description(self):
        return json.loads((self.folder / "case.json").read_text())

    @cached_property
    def inputs(self):
        return np.load(self.folder / "inputs.npz")

    @cached_property
    def golden(self):
        return np.load(self.folder / "golden.npz")

    def ops(self):
        """Operators of the graph, without domains."""
        return {op.split("::")[-1] for op in self.description.get("op_histogram", {})}

    def is_genai(self):
        # Graphs with GroupQueryAttention take lengths from the mask's sum: they mean right padding only.
        return (self.folder / "genai_config.json").exists() or "GroupQueryAttention" in self.ops()

    def scenarios(self):
        """Names of the scenarios that the graph means to be able to run and whose goldens are the graph's."""
        names = sorted({name.split("/")[0] for name in self.golden.files})
        return [name for name in names if "@" not in name and not (self.is_genai() and "leftpad" in name) and self.is_own(name)]

    def is_own(self, scenario):
        """False where onnxruntime did not run a quantized graph: then the goldens are of the model before quantization."""
        ran = self.description.get("scenarios", {}).get(scenario, {}).get("ok", True)
        return ran or not self.ops() & QUANTIZED_OPS

    def steps(self, scenario):
        found = {name.split("/")[1] for name in self.inputs.files if name.startswith(scenario + "/step")}
        return sorted(found, key=lambda step: int(step[4:]))

    def feed(self, scenario, step):
        """Recorded inputs of a step by name."""
        prefix = f"{scenario}/{step}/"
        return {name[len(prefix):]: self.inputs[name] for name in self.inputs.files if name.startswith(prefix)}

    def wanted(self, scenario, step, kind=""):
        """Goldens of a step (or of `final`) by output name; of one of goldens()."""
        prefix = f"{scenario}/{step}/"
        found = {name[len(prefix):]: name for name in self.golden.files if name.startswith(prefix)}
        best = {name: key for name, key in found.items() if "@" not in name}
        if kind:
            best = {name[: -len(kind)]: key for name, key in found.items() if name.endswith(kind)}
        return {name: self.golden[key] for name, key in best.items()}

    def goldens(self):
        """[(kind of golden, Tolerance)] of the model compiled with float weights; one of them must be met."""
        kinds = [(FLOAT_ACTIVATIONS, Tolerance(*FLOAT_ACTIVATIONS_OF_QUANTIZED))]
        if not any(name.endswith(FLOAT_ACTIVATIONS) for name in self.golden.files):
            kinds = []
        types = set(self.description.get("initializer_dtypes", {}))
        if self.ops() & QUANTIZED_OPS:
            return kinds + [("", Tolerance(*INTEGER_ACTIVATIONS))]
        if types & {"FLOAT16", "BFLOAT16"}:
            return kinds + [("", Tolerance(*HALF))]
        return kinds + [("", Tolerance(*FLOAT))]


def find_cases(root, only="*"):
    """Cases below a folder: (name relative to it, Case)."""
    root = Path(root)
    found = sorted({str(path.parent.relative_to(root)) for path in root.rglob("case.json")})
    return [(name, Case(root / name)) for name in found if fnmatch.fnmatch(name, only) or only in name]


def valid_rows(feed, past, value):
    """Which rows of an output [batch, sequence, ...] of a step stand for tokens; a boolean array over its leading axes.

    `past`: columns of the mask that came before. Outputs of the last column only are [batch, 1, ...].
    """
    mask = feed.get("attention_mask")
    width = sequence_length(feed)
    if mask is None or value.ndim < 3 or mask.ndim != 2:
        return np.ones(value.shape[:1], bool)
    now = mask[:, past : past + width] != 0
    if value.shape[1] == width:
        return now
    return now[:, -1:] if value.shape[1] == 1 else np.ones(value.shape[:2], bool)


def token_input(feed):
    return next((feed[name] for name in ("input_ids", "inputs_embeds", "decoder_input_ids") if name in feed), None)


def sequence_length(feed):
    tokens = token_input(feed)
    return 0 if tokens is None else tokens.shape[1]


def batch_size(feed):
    tokens = token_input(feed)
    return 1 if tokens is None else tokens.shape[0]


@dataclass
class RaggedStep:
    """Tokens (id, position, slot) of a step without its padding, and the goldens of some of them."""

    tokens: list
    types: list  # of the tokens
    rows: list  # indices into tokens
    golden: np.ndarray  # [rows, width]


def ragged(case, scenario, output="logits", kind=""):
    """A scenario as ragged batches: a token's position is its index among its slot's tokens. None without token ids."""
    steps, past, counts = [], 0, {}
    for step in case.steps(scenario):
        feed, wanted = case.feed(scenario, step), case.wanted(scenario, step, kind)
        if "input_ids" not in feed:
            return None
        ids = feed["input_ids"]
        kinds = feed.get("token_type_ids", np.zeros_like(ids))
        mask = feed.get("attention_mask", np.ones((ids.shape[0], past + ids.shape[1]), np.int64))
        out = wanted.get(output)
        tokens, types, rows, golden = [], [], [], []
        for slot, line in enumerate(ids):
            first, last = len(tokens), None
            for s, token in enumerate(line):
                if mask[slot, past + s] == 0:
                    continue
                position = counts.get(slot, 0)
                counts[slot] = position + 1
                last = (len(tokens), s)
                tokens.append((int(token), position, slot))
                types.append(int(kinds[slot, s]))
                if out is not None and out.ndim == 3 and out.shape[1] == ids.shape[1]:
                    rows.append(len(tokens) - 1)
                    golden.append(out[slot, s])
            if out is not None and last and out.ndim == 2:
                rows.append(first)  # what is of a whole text is in the row of its first token
                golden.append(out[slot])
            elif out is not None and last and out.shape[1] == 1 < ids.shape[1] and last[1] == ids.shape[1] - 1:
                rows.append(last[0])  # of the last column alone, which must be a token then
                golden.append(out[slot, 0])
        steps.append(RaggedStep(tokens, types, rows, np.array(golden)))
        past += ids.shape[1]
    return steps
