"""The BERT exporter on the weights of a real export by optimum: the same graph, node for node; and what it refuses.

usage: export_bert_test.py EXPORTS        (EXPORTS/cases/bert_cls/optimum is a classifier: a BERT encoder, a pooler and a head)
"""
import contextlib
import io
import json
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
import export_bert  # noqa: E402

OPTIMUM = Path(sys.argv[1]) / "cases/bert_cls/optimum/model.onnx"
CONFIG = {"model_type": "bert", "hidden_act": "gelu", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
          "num_attention_heads": 4, "max_position_embeddings": 128, "type_vocab_size": 2, "vocab_size": 256, "layer_norm_eps": 1e-12}


def write_safetensors(path: Path, tensors: dict, kind="F32"):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in tensors.items():
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def resolved(graph) -> list:
    """Each node with a name: operator, names without the classifier's `bert`, attributes, constants and matrices by their values."""
    values = {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.name.startswith("onnx::")}
    values |= {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in graph.node if n.op_type == "Constant"}
    plain = lambda name: name.removeprefix("/bert").removeprefix("bert.")
    value = lambda array: (str(array.dtype), array.shape, array.tobytes())
    return [(n.op_type, plain(n.name), [value(values[i]) if i in values else plain(i) for i in n.input],
             sorted((a.name, a.SerializeToString()) for a in n.attribute), plain(n.output[0]))
            for n in graph.node if n.op_type != "Constant"]


class ExportTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """The checkpoint that optimum's graph was made of."""
        cls.optimum = onnx.load(OPTIMUM).graph
        arrays = {t.name: numpy_helper.to_array(t) for t in cls.optimum.initializer}
        cls.weights = {n.removeprefix("bert."): a for n, a in arrays.items() if n.startswith("bert.")}
        for node in cls.optimum.node:
            if node.op_type == "MatMul" and node.input[1] in arrays:
                name = node.name.removeprefix("/bert/").removesuffix("/MatMul").replace("/", ".")
                cls.weights[f"{name}.weight"] = arrays[node.input[1]].T
        cls.weights["embeddings.position_ids"] = np.arange(128)[None]

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.source, self.out = Path(folder.name) / "source", Path(folder.name) / "out"
        self.source.mkdir()

    def export(self, weights: dict, **config) -> tuple:
        (self.source / "config.json").write_text(json.dumps(CONFIG | config))
        (self.source / "tokenizer.json").write_text("{}")
        write_safetensors(self.source / "model.safetensors", weights)
        return self.run_exporter()

    def run_exporter(self) -> tuple:
        """The exporter's exit code and what it said."""
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            code = export_bert.main([str(self.source), str(self.out)])
        return code, said.getvalue()

    def refused(self, expected: str, result: tuple):
        self.assertEqual(result[0], 1)
        self.assertIn(expected, result[1])
        self.assertFalse(self.out.exists(), "a refused export must leave nothing")

    def test_graph_is_that_of_optimum(self):
        self.assertEqual(self.export(self.weights), (0, ""))
        model = onnx.load(self.out / "model.onnx")
        onnx.checker.check_model(model, full_check=True)
        expected, found = resolved(self.optimum), resolved(model.graph)
        encoder = next(i for i, n in enumerate(expected) if n[1].startswith("/pooler"))
        last = (*expected[encoder - 1][:4], "last_hidden_state")
        self.assertEqual(len(found), encoder)
        for a, b in zip(found, [*expected[: encoder - 1], last], strict=True):
            self.assertEqual(a, b)
        self.assertEqual(list(model.graph.input), list(self.optimum.input))
        for tensor in model.graph.initializer:
            if not tensor.name.startswith("onnx::"):
                np.testing.assert_array_equal(numpy_helper.to_array(tensor), self.weights[tensor.name], tensor.name)

    def test_what_lies_beside_the_model_is_copied(self):
        (self.source / "1_Pooling").mkdir()
        kept = {"modules.json": '[{"path": "1_Pooling"}]', "1_Pooling/config.json": '{"pooling_mode_mean_tokens": true}', "vocab.txt": "a"}
        for name, content in kept.items():
            (self.source / name).write_text(content)
        self.assertEqual(self.export(self.weights), (0, ""))
        self.assertEqual({name: (self.out / name).read_text() for name in kept}, kept)
        self.assertEqual(json.loads((self.out / "config.json").read_text()), CONFIG)

    def test_refusals(self):
        w = self.weights
        self.refused("there is no file", self.run_exporter())
        self.refused("model_type 'roberta', expected 'bert'", self.export(w, model_type="roberta"))
        self.refused("hidden_act 'relu', expected 'gelu'", self.export(w, hidden_act="relu"))
        self.refused("no tensor 'encoder.layer.2.attention.self.query.weight'", self.export(w, num_hidden_layers=3))
        self.refused("tensors that a plain BERT encoder does not: lm.bias", self.export(w | {"lm.bias": np.zeros(4, np.float32)}))
        self.refused("has shape [256, 64], expected [300, 64]", self.export(w, vocab_size=300))

    def test_damaged_files(self):
        self.export(self.weights)
        shutil.rmtree(self.out)
        path = self.source / "model.safetensors"
        whole = path.read_bytes()
        for damaged, said in ((b"", "not a safetensors file"), (whole[:100], "not a safetensors file"), (whole[:-4], "it is damaged"),
                              (whole + b"0", "it is damaged")):
            path.write_bytes(damaged)
            self.refused(said, self.run_exporter())
        write_safetensors(path, self.weights, kind="F16")
        self.refused("is of type F16, expected F32", self.run_exporter())
        (self.source / "config.json").write_text("{")
        self.refused("config.json is not JSON", self.run_exporter())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
