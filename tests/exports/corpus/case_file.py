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


def write(folder, reference, exporter, graph_options=None, integer=False, float_graph=None, tolerance=TOLERANCE, note=None,
          skip_leftpad=False):
    """Runs every scenario and writes the case's data. `float_graph` is the same graph with dequantized weights or float
    activations; its outputs go beside the integer ones as `...@fp32_activations`. Returns the case's record."""
    import onnxruntime

    path = os.path.join(folder, "model.onnx")
    graph = goldens.Graph(path, **(graph_options or {}))
    twin = goldens.Graph(float_graph["path"], **{**(graph_options or {}), **float_graph.get("options", {})}) if float_graph else None
    reference.evaluate("token_type_ids" in graph.inputs)
    inputs, golden, record = {}, {}, {}
    for scenario in reference.scenarios:
        entry = record[scenario.name] = {"ok": True, "finite": True}
        if skip_leftpad and scenario.name == "b2_leftpad":
            entry["skip"] = "GroupQueryAttention means right padding only"
        worst, spread, gap, keep = 0.0, 0.0, 0.0, {}
        pairs = zip(graph.run(scenario), twin.run(scenario)) if twin else ((a, None) for a in graph.run(scenario))
        for i, ((data, out), other) in enumerate(pairs):
            step = scenario.steps[i]
            inputs.update({f"{scenario.name}/step{i}/{n}": v for n, v in data.items()})
            for name in goldens.compared(out):
                key = f"{scenario.name}/step{i}/{name}"
                value = np.asarray(out[name]).astype(np.float32)
                want, rows = reference.step(scenario, step, name, value.shape)
                if other:
                    golden[key + "@fp32_activations"] = np.asarray(other[1][name]).astype(np.float32)
                    gap = max(gap, float(np.abs(value - golden[key + "@fp32_activations"]).max()))
                golden[key] = value
                if want is None or want.shape != value.shape:
                    entry["unchecked"] = sorted({*entry.get("unchecked", []), name})
                    continue
                error = np.abs(want - value)[rows]
                entry["finite"] &= bool(np.isfinite(value[rows]).all())
                worst = max(worst, float(np.nan_to_num(error, nan=np.inf).max()))
                spread = max(spread, float(want[rows].std()))
                keep[key] = (want, rows)
        entry["max_abs_diff_vs_float64_torch"] = worst
        entry["ref_std"] = spread
        if twin:
            entry["int8act_vs_fp32act"] = gap
        torch_golden = bool(keep) and not integer and worst <= tolerance
        entry["golden"] = "torch_float64" if torch_golden else "onnxruntime"
        if torch_golden:
            for key, (want, rows) in keep.items():
                golden[key][rows] = want[rows].astype(np.float32)
        if scenario.name == "b1_p7":
            golden.update({f"b1_p7/final/{o}": np.asarray(out[o]).astype(np.float32) for o in graph.state.values() if out[o].ndim})
    skipped = [s for s, e in record.items() if "skip" not in e]
    case = {
        "case": "/".join(exporter["case"]),
        "architecture": type(reference.model).__name__,
        "tiny_config": reference.name,
        "kind": reference.kind,
        "exporter": exporter["text"],
        "onnxruntime": onnxruntime.__version__,
        "onnx": onnx.__version__,
        **describe(path),
        "golden": "torch_float64" if all(record[s]["golden"] == "torch_float64" for s in skipped) else "onnxruntime",
        "max_error_vs_torch": max(record[s]["max_abs_diff_vs_float64_torch"] for s in skipped),
        "scenarios": record,
    }
    if note:
        case["note"] = note
    np.savez_compressed(os.path.join(folder, "inputs.npz"), **inputs)
    np.savez_compressed(os.path.join(folder, "golden.npz"), **golden)
    with open(os.path.join(folder, "case.json"), "w") as f:
        json.dump(case, f, indent=1)
    return case
