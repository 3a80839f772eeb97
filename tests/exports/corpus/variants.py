"""Cases made from another case's graph: onnxruntime's quantizers, half precision, the files of transformers.js, data layout."""
import os
import shutil

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import architectures
import goldens
from exporters import versions

HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


class Missing(Exception):
    """The case to start from is not there."""


def source(root, name, folder, exporter="optimum"):
    """Copies the configurations of the case to start from and returns the path of its graph."""
    case = os.path.join(root, "cases", name, exporter)
    if not os.path.exists(case):
        raise Missing(f"needs {name}/{exporter}, which is not made")
    for extra in ("config.json", "genai_config.json"):
        if os.path.exists(os.path.join(case, extra)):
            shutil.copy(os.path.join(case, extra), folder)
    return os.path.join(case, "model.onnx")


# --- twins: the same function with float activations ---------------------------------------------------------------------
def graphs(graph):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g)


def lift_tensor(tensor):
    if tensor.data_type in HALF:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))


def lift(path, out):
    """The graph with every half tensor made float32 (weights keep their rounded values)."""
    model = onnx.load(path)
    for graph in graphs(model.graph):
        for tensor in graph.initializer:
            lift_tensor(tensor)
        for value in [*graph.input, *graph.output, *graph.value_info]:
            if value.type.tensor_type.elem_type in HALF:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR:
                    lift_tensor(attribute.t)
                elif attribute.name in ("to", "dtype", "stash_type", "output_dtype", "softmax_precision") and attribute.i in HALF:
                    attribute.i = TensorProto.FLOAT
    onnx.save(model, out)
    return out, {}


def float_matmul_nbits(path, out):
    """MatMulNBits with the activations left float."""
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "MatMulNBits":
            kept = [a for a in node.attribute if a.name != "accuracy_level"]
            del node.attribute[:]
            node.attribute.extend(kept)
    onnx.save(model, out)
    return out, {}


def float_dynamic(path, out):
    """MatMulInteger of a DynamicQuantizeLinear made a MatMul of its float input with the dequantized weight."""
    model = onnx.load(path)
    graph = model.graph
    weights = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    by_output = {o: n for n in graph.node for o in n.output}
    users = {}
    for node in graph.node:
        for i in node.input:
            users.setdefault(i, []).append(node)
    for node in list(graph.node):
        if node.op_type != "MatMulInteger":
            continue
        quantize = by_output[node.input[0]]
        cast = users[node.output[0]][0]
        scaled = users[cast.output[0]][0]  # Mul(cast, Mul(activation scale, weight scale))
        both = by_output[next(i for i in scaled.input if i != cast.output[0])]
        scale = weights[next(i for i in both.input if i in weights)]
        zero = weights[node.input[3]] if len(node.input) > 3 and node.input[3] else 0
        value = (weights[node.input[1]].astype(np.float32) - np.asarray(zero, np.float32)) * scale
        name = node.output[0] + "_weight"
        graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
        scaled.CopyFrom(helper.make_node("MatMul", [quantize.input[0], name], list(scaled.output)))
    onnx.save(model, out)
    return out, {}


def float_qdq(path, out):
    """Static QDQ with the activations' QuantizeLinear and DequantizeLinear pairs taken out."""
    model = onnx.load(path)
    by_output = {o: n for n in model.graph.node for o in n.output}
    for node in model.graph.node:
        before = by_output.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if before is not None and before.op_type == "QuantizeLinear":
            node.CopyFrom(helper.make_node("Identity", [before.input[0]], list(node.output)))
    onnx.save(model, out)
    return out, {}


def twin(folder, make):
    """Runs `make` beside the case's folder, where nothing of it is kept."""
    return make(os.path.join(folder, "model.onnx"), folder + ".twin.onnx")


# --- makers ----------------------------------------------------------------------------------------------------------------
def dynamic(root, name, folder, weight="QInt8", per_channel=False, **_):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    out = os.path.join(folder, "model.onnx")
    quantize_dynamic(source(root, name, folder), out, weight_type=getattr(QuantType, weight), per_channel=per_channel)
    text = f"onnxruntime.quantization.quantize_dynamic ({weight}, per_channel={per_channel}) of optimum, {versions('onnxruntime')}"
    return text, {"integer": True, "twin": twin(folder, float_dynamic)}


def static(root, name, folder, ops=None, **_):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    path = source(root, name, folder)
    graph, ref = goldens.Graph(path), goldens.Reference(root, name)

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.feeds = iter([{**graph.feed(s.steps[0]), **{n: graph.first_state(n, len(s.rows)) for n in graph.state}}
                               for s in ref.scenarios])

        def get_next(self):
            return next(self.feeds, None)

    quantize_static(path, os.path.join(folder, "model.onnx"), Reader(), quant_format=QuantFormat.QDQ,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=ops)
    text = f"onnxruntime.quantization.quantize_static (QDQ, QUInt8 by QInt8, {ops or 'every op'}) of optimum, {versions('onnxruntime')}"
    return text, {"integer": True, "twin": twin(folder, float_qdq)}


def convert_half(path, keep_io):
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(onnx.load(path), keep_io_types=keep_io, force_fp16_initializers=True)


def js_fp16(root, name, folder, keep_io=False, **_):
    onnx.save(convert_half(source(root, name, folder), keep_io), os.path.join(folder, "model.onnx"))
    return (f"float16 conversion of optimum as transformers.js does (keep_io_types={keep_io}), {versions('onnxruntime')}",
            {"integer": True, "twin": twin(folder, lift), "precision": "float16"})


def js_q4(root, name, folder, half=False, symmetric=True, bits=4, **_):
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    model = onnx.load(source(root, name, folder))
    quantizer = MatMulNBitsQuantizer(model, block_size=32, is_symmetric=symmetric, accuracy_level=None if half else 4, bits=bits)
    quantizer.process()
    out = os.path.join(folder, "model.onnx")
    onnx.save(quantizer.model.model, out)
    text = f"MatMulNBits {bits} bit, block 32, symmetric={symmetric} of optimum as transformers.js does, {versions('onnxruntime')}"
    if half:
        onnx.save(convert_half(out, False), out)
        return text + ", then float16", {"integer": True, "twin": twin(folder, lift), "precision": "float16"}
    return text, {"integer": True, "twin": twin(folder, float_matmul_nbits)}


def external(root, name, folder, many=False, **_):
    model = onnx.load(source(root, name, folder))
    onnx.save(model, os.path.join(folder, "model.onnx"), save_as_external_data=True, all_tensors_to_one_file=not many,
              location=None if many else "model.onnx.data", size_threshold=1024)
    return f"optimum with external data in {'many files' if many else 'one file'}", {}


def newer(root, name, folder, opset=26, **_):
    model = onnx.version_converter.convert_version(onnx.load(source(root, name, folder, "dynamo23")), opset)
    onnx.save(model, os.path.join(folder, "model.onnx"))
    return f"dynamo23's graph by onnx.version_converter to opset {opset}, {versions('onnx')}", {}


def half_export(export, dtype):
    """An exporter of the half-precision torch model; onnxruntime has no bfloat16, so that one's golden is the lifted graph's."""

    def run(root, name, folder, **options):
        text = export(root, name, folder, dtype=dtype, **options)
        bf16 = "bfloat16" in str(dtype)
        made = twin(folder, lift)
        extra = {"integer": True, "precision": str(dtype).split(".")[-1]}
        extra["run"] = made[0] if bf16 else None
        extra["twin"] = None if bf16 else made
        return f"{text}, {dtype}", extra

    return run
