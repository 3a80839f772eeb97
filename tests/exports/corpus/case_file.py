"""Writes one case's folder: inputs.npz, golden.npz and case.json beside an exported model.onnx."""
import collections
import json
import os

import numpy as np
import onnx

import goldens

TOLERANCE = 5e-5  # a float32 graph further than this from float64 torch means something else than torch does


def describe(path):
    model = onnx.load(path, load_external_data=False)
    ops = collections.Counter()

    def count(graph):
        for node in graph.node:
            ops[(node.domain + "::" if node.domain not in ("", "ai.onnx") else "") + node.op_type] += 1
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    count(attribute.g)

    def value(v):
        t = v.type.tensor_type
        dims = [d.dim_param or str(d.dim_value) for d in t.shape.dim]
        return f"{v.name}:{onnx.TensorProto.DataType.Name(t.elem_type)}[{','.join(dims)}]"

    count(model.graph)
    kinds = collections.Counter(onnx.TensorProto.DataType.Name(t.data_type) for t in model.graph.initializer)
    return {
        "ir_version": model.ir_version,
        "opset": {o.domain or "ai.onnx": o.version for o in model.opset_import},
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "functions": [f.name for f in model.functions],
        "inputs": [value(v) for v in model.graph.input],
        "outputs": [value(v) for v in model.graph.output],
        "node_count": sum(ops.values()),
        "op_histogram": dict(ops.most_common()),
        "initializers": len(model.graph.initializer),
        "initializer_dtypes": dict(kinds),
        "file_bytes": os.path.getsize(path),
    }


class Scenario:
    """One scenario's inputs, goldens and record, from the graph, from its float twin and from torch."""

    def __init__(self, scenario, graph, twin, reference, tolerance, integer):
        self.scenario, self.graph, self.reference = scenario, graph, reference
        self.inputs, self.golden, self.record, self.torch = {}, {}, {"ok": True, "finite": True}, {}
        self.worst = self.spread = 0.0
        for i, step in enumerate(scenario.steps):
            self.inputs.update({f"{scenario.name}/step{i}/{n}": v for n, v in graph.feed(step).items()})
        try:
            outs = graph.run(scenario)
        except Exception as error:
            self.refused(error)
            return
        for i, out in enumerate(outs):
            self.step(i, out)
        if twin:
            self.float_activations(outs, twin.run(scenario))
        self.record.update(max_abs_diff_vs_float64_torch=self.worst, ref_std=self.spread)
        agrees = bool(self.torch) and not integer and self.worst <= tolerance
        self.record["golden"] = "torch_float64" if agrees else "onnxruntime"
        if agrees:
            for key, (want, rows) in self.torch.items():
                self.golden[key][rows] = want[rows].astype(np.float32)
        if scenario.name == "b1_p7":
            final = [o for n, o in graph.state.items() if outs[-1][o].ndim and "sliding" not in str(graph.inputs[n].shape)]
            self.golden.update({f"b1_p7/final/{o}": np.asarray(outs[-1][o]).astype(np.float32) for o in final})

    def refused(self, error):
        """onnxruntime does not run this scenario: torch alone says what is right."""
        self.record.update(ok=False, onnxruntime_error=" ".join(str(error).split())[:300], golden="torch_float64",
                           max_abs_diff_vs_float64_torch=0.0)
        for i, step in enumerate(self.scenario.steps):
            name = goldens.compared(self.graph.outputs)[0]
            value, _ = self.reference.step(self.scenario, step, name, (*step.where.shape, 0))
            self.golden[f"{self.scenario.name}/step{i}/{name}"] = value.astype(np.float32)

    def step(self, i, out):
        for name in goldens.compared(out):
            key = f"{self.scenario.name}/step{i}/{name}"
            value = self.golden[key] = np.asarray(out[name]).astype(np.float32)
            want, rows = self.reference.step(self.scenario, self.scenario.steps[i], name, value.shape)
            if want is None or want.shape != value.shape:
                self.record["unchecked"] = sorted({*self.record.get("unchecked", []), name})
                continue
            if not rows.any():
                continue
            self.record["finite"] &= bool(np.isfinite(value[rows]).all())
            self.worst = max(self.worst, float(np.nan_to_num(np.abs(want - value)[rows], nan=np.inf).max()))
            self.spread = max(self.spread, float(want[rows].std()))
            self.torch[key] = (want, rows)

    def float_activations(self, outs, twins):
        gap = 0.0
        for i, (out, twin) in enumerate(zip(outs, twins)):
            for name in goldens.compared(out):
                value = np.asarray(twin[name]).astype(np.float32)
                self.golden[f"{self.scenario.name}/step{i}/{name}@fp32_activations"] = value
                gap = max(gap, float(np.abs(value - out[name].astype(np.float32)).max()))
        self.record["int8act_vs_fp32act"] = gap


def write(folder, reference, exporter, graph_options=None, integer=False, twin=None, tolerance=TOLERANCE, note=None,
          skip_leftpad=False, precision=None, run=None):
    """Runs every scenario and writes the case's data. `integer`: the golden is onnxruntime's integer arithmetic. `twin` is
    (path, options) of the same function with float activations, whose outputs go beside it as `...@fp32_activations`.
    `run` is the graph to run instead of the case's own, where onnxruntime has no kernels for it. Returns the case's record."""
    import onnxruntime

    path = os.path.join(folder, "model.onnx")
    options = graph_options or {}
    graph = goldens.Graph(run or path, embed=reference.embed, **options)
    if twin:
        twin = goldens.Graph(twin[0], embed=reference.embed, **{**options, **twin[1]})
    reference.evaluate("token_type_ids" in graph.inputs)
    inputs, golden, record = {}, {}, {}
    for scenario in reference.scenarios:
        made = Scenario(scenario, graph, twin, reference, tolerance, integer)
        inputs.update(made.inputs)
        golden.update(made.golden)
        record[scenario.name] = made.record
        if skip_leftpad and scenario.name == "b2_leftpad":
            made.record["skip"] = "GroupQueryAttention means right padding only"
    if not any(r["ok"] for r in record.values()):
        raise RuntimeError("onnxruntime runs no scenario: " + next(iter(record.values()))["onnxruntime_error"])
    used = [s for s, e in record.items() if "skip" not in e]
    case = {
        "case": "/".join(exporter["case"]),
        "architecture": type(reference.model).__name__,
        "tiny_config": reference.name,
        "kind": reference.kind,
        "exporter": exporter["text"],
        "onnxruntime": onnxruntime.__version__,
        "onnx": onnx.__version__,
        **describe(path),
        "golden": "torch_float64" if all(record[s]["golden"] == "torch_float64" for s in used) else "onnxruntime",
        "max_error_vs_torch": max(record[s]["max_abs_diff_vs_float64_torch"] for s in used),
        "scenarios": record,
    }
    if options.get("capacity"):
        case["state_capacity"] = options["capacity"]
    if precision:
        case["precision"] = precision
    if run:
        case["golden"] = "onnxruntime on the graph with every half tensor made float32"
    if note:
        case["note"] = note
    np.savez_compressed(os.path.join(folder, "inputs.npz"), **inputs)
    np.savez_compressed(os.path.join(folder, "golden.npz"), **golden)
    with open(os.path.join(folder, "case.json"), "w") as f:
        json.dump(case, f, indent=1)
    return case
