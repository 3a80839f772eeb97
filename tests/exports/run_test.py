"""Tests of tests/exports/run itself: verdicts of a made-up compiler and library, ragged batches, tolerances."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from cases import Case, Tolerance, find_cases, ragged, valid_rows  # noqa: E402

# A library of a model whose logits are all zero; an artifact that says "abort" makes it crash in its second step, one that says
# "hang" makes it hang.
LIBRARY = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static char mode[16];
static int steps;
static float logits[3];
const char *smelt_last_error(void) { return "it does not want to"; }
int smelt_model_open(const char *path, void *options, void **model) {
  FILE *file = fopen(path, "r");
  if (!file || !fgets(mode, sizeof mode, file)) return 2;
  *model = mode;
  return strcmp(mode, "refuse") == 0 ? 4 : 0;
}
int smelt_model_get_info(void *model, uint32_t *info) {
  info[4] = 3;  /* vocab_size */
  info[8] = info[9] = 4;  /* max_step_tokens, max_logit_rows */
  return 0;
}
int smelt_session_create(void *model, void *options, void **session) { *session = mode; return 0; }
void smelt_session_free(void *session) {}
int smelt_step(void *session, const void *tokens, size_t count, const void *rows, size_t row_count) {
  ++steps;
  if (strcmp(mode, "abort") == 0 && steps == 2) abort();
  if (strcmp(mode, "hang") == 0) sleep(100);
  return 0;
}
const float *smelt_logits(void *session, size_t row) { return logits; }
size_t smelt_graph_input_count(void *graph) { return 0; }
size_t smelt_graph_output_count(void *graph) { return 0; }
"""


def write_case(folder, golden, ops=(), types=("FLOAT",), mask=None, name="b1_p7", ids=((1, 2),)):
    """A case with one scenario for each name in `golden`: {scenario: {step: logits}}."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_text(folder.name)
    ids = np.array(ids)
    inputs, goldens = {}, {}
    for scenario, value in golden.items():
        inputs[f"{scenario}/step0/input_ids"] = ids
        inputs[f"{scenario}/step0/attention_mask"] = np.ones_like(ids) if mask is None else np.array(mask)
        for output, array in value.items():
            goldens[f"{scenario}/step0/{output}"] = np.array(array, np.float32)
    np.savez(folder / "inputs.npz", **inputs)
    np.savez(folder / "golden.npz", **goldens)
    (folder / "case.json").write_text(json.dumps({"op_histogram": dict.fromkeys(ops, 1), "initializer_dtypes": dict.fromkeys(types, 1),
                                                  "inputs": [], "outputs": []}))


class Verdicts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.root = Path(cls.folder.name)
        (cls.root / "build/bin").mkdir(parents=True)
        (cls.root / "build/lib").mkdir()
        (cls.root / "library.c").write_text(LIBRARY)
        subprocess.run([os.environ.get("CC", "cc"), "-w", "-shared", "-fPIC", "-o", cls.root / "build/lib/libsmelt.so",
                        cls.root / "library.c"], check=True)
        # The model's text says what the compiler does: compile it, refuse, die, hang.
        compiler = cls.root / "build/bin/smelt"
        compiler.write_text("""#!/bin/sh
case $(cat "$2") in
c_refused) echo "smelt compile: warning: first" >&2; echo "smelt compile: 2 nodes were not raised:" >&2; echo '  "/a" Foo' >&2; exit 1;;
c_dies) kill -SEGV $$;;
c_hangs) sleep 100;;
r_*) cat "$2" | sed s/r_// | tr -d '\\n' > "$4";;
*) printf fine > "$4";;
esac
""")
        compiler.chmod(0o755)
        zeros = np.zeros((1, 2, 3))
        two = {"b1_p12": {"logits": zeros}, "b1_p7": {"logits": zeros}}
        for name in ("fine", "c_refused", "c_dies", "c_hangs", "r_refuse", "r_abort", "r_hang"):
            write_case(cls.root / "cases" / name, two)
        either = {"b1_p7": {"logits": zeros + 0.5, "logits@fp32_activations": zeros}}
        write_case(cls.root / "cases/either", either, ops=["MatMulNBits"])
        write_case(cls.root / "cases/wrong", {"b1_p7": {"logits": zeros + 0.25}, "b1_p12": {"logits": zeros + np.nan}})
        write_case(cls.root / "cases/broken", two)
        (cls.root / "cases/broken/golden.npz").write_text("no archive")
        done = subprocess.run([sys.executable, HERE / "run", cls.root / "cases", "--build", cls.root / "build", "--timeout", "2",
                               "--jobs", "8"], capture_output=True, text=True)
        cls.code, cls.out = done.returncode, done.stdout
        cls.lines = dict.fromkeys([], "")
        for line in done.stdout.splitlines():
            case, _, rest = line.partition(" ")
            cls.lines.setdefault(case, []).append(rest)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def expect(self, case, *lines):
        self.assertEqual(self.lines[case], list(lines), self.out)

    def test_ok(self):
        self.expect("fine", "b1_p12 ok 0", "b1_p7 ok 0")

    def test_either_golden_will_do(self):
        self.expect("either", "b1_p7 ok 0 of the deviation")

    def test_wrong(self):
        self.expect("wrong", "b1_p12 wrong inf (logits, at most 0.0001)", "b1_p7 wrong 0.25 (logits, at most 0.0001)")

    def test_refused(self):
        why = 'refused smelt compile: 2 nodes were not raised: "/a" Foo'
        self.expect("c_refused", f"b1_p12 {why}", f"b1_p7 {why}")
        why = "refused unsupported: it does not want to"
        self.expect("r_refuse", f"b1_p12 {why}", f"b1_p7 {why}")

    def test_crash(self):
        self.expect("c_dies", "b1_p12 crash compile: SIGSEGV", "b1_p7 crash compile: SIGSEGV")
        self.expect("c_hangs", "b1_p12 crash compile: still running after 2 s", "b1_p7 crash compile: still running after 2 s")
        # The first scenario is one step, the second crashes; run again from there, the counter starts anew.
        self.expect("r_abort", "b1_p12 ok 0", "b1_p7 crash SIGABRT")
        self.expect("r_hang", "b1_p12 crash still running after 2 s", "b1_p7 crash still running after 2 s")

    def test_broken_folder(self):
        self.assertEqual(len(self.lines["broken"]), 1)
        self.assertRegex(self.lines["broken"][0], "^- crash ")

    def test_counts(self):
        self.assertEqual(self.out.splitlines()[-1], "4 ok, 4 refused, 2 wrong, 8 crashed")
        self.assertEqual(self.code, 1)

    def test_exit_code_zero(self):
        done = subprocess.run([sys.executable, HERE / "run", self.root / "cases", "--build", self.root / "build", "--only", "*refuse*"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(done.stdout.splitlines()[-1], "0 ok, 4 refused, 0 wrong, 0 crashed")


class Cases(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def case(self, *arguments, **options):
        path = Path(self.folder.name) / f"case{len(os.listdir(self.folder.name))}"
        write_case(path, *arguments, **options)
        return Case(path)

    def test_padding_is_left_out(self):
        logits = np.arange(12).reshape(2, 3, 2)
        case = self.case({"b2": {"logits": logits}}, ids=((1, 2, 3), (9, 4, 5)), mask=((1, 1, 1), (0, 1, 1)))
        (step,) = ragged(case, "b2")
        self.assertEqual(step.tokens, [(1, 0, 0), (2, 1, 0), (3, 2, 0), (4, 0, 1), (5, 1, 1)])
        self.assertEqual(step.rows, [0, 1, 2, 3, 4])
        self.assertEqual(step.golden.tolist(), [[0, 1], [2, 3], [4, 5], [8, 9], [10, 11]])

    def test_last_column_and_pooled(self):
        options = dict(ids=((1, 2, 3), (4, 5, 9)), mask=((1, 1, 1), (1, 1, 0)))
        (step,) = ragged(self.case({"b2": {"logits": np.arange(4).reshape(2, 1, 2)}}, **options), "b2")
        self.assertEqual((step.rows, step.golden.tolist()), ([2], [[0, 1]]))
        (step,) = ragged(self.case({"b2": {"logits": np.arange(4).reshape(2, 2)}}, **options), "b2")
        self.assertEqual((step.rows, step.golden.tolist()), ([0, 3], [[0, 1], [2, 3]]))

    def test_valid_rows(self):
        feed = {"input_ids": np.zeros((2, 2)), "attention_mask": np.array([[0, 1, 1], [1, 1, 0]])}
        self.assertEqual(valid_rows(feed, 1, np.zeros((2, 2, 5))).tolist(), [[True, True], [True, False]])
        self.assertEqual(valid_rows(feed, 1, np.zeros((2, 1, 5))).tolist(), [[True], [False]])
        self.assertEqual(valid_rows(feed, 1, np.zeros((2, 5))).tolist(), [True, True])

    def test_tolerances(self):
        plain, both = {"b": {"logits": np.zeros((1, 2, 3))}}, {"b": {"logits": np.zeros((1, 2, 3)), "logits@fp32_activations": np.ones((1, 2, 3))}}
        self.assertEqual(self.case(plain).goldens(), [("", Tolerance("absolute", 1e-4))])
        self.assertEqual(self.case(plain, ops=["MatMulInteger"]).goldens(), [("", Tolerance("rms", 0.05))])
        quantized = self.case(both, ops=["com.microsoft::MatMulNBits"])
        self.assertEqual(quantized.goldens(), [("@fp32_activations", Tolerance("share", 1e-3)), ("", Tolerance("rms", 0.05))])
        self.assertEqual(quantized.wanted("b", "step0")["logits"].max(), 0)
        self.assertEqual(quantized.wanted("b", "step0", "@fp32_activations")["logits"].max(), 1)
        self.assertEqual(self.case(plain, types=["FLOAT16"]).goldens()[0][1].kind, "share")

    def test_genai_means_right_padding(self):
        golden = {name: {"logits": np.zeros((1, 2, 3))} for name in ("b1_p7", "b2_leftpad")}
        self.assertEqual(self.case(golden).scenarios(), ["b1_p7", "b2_leftpad"])
        self.assertEqual(self.case(golden, ops=["com.microsoft::GroupQueryAttention"]).scenarios(), ["b1_p7"])

    def test_goldens_from_before_quantization(self):
        golden = {name: {"logits": np.zeros((1, 2, 3))} for name in ("b1_p7", "b2_rightpad_prefill")}
        for ops, expected in ((["MatMulNBits"], ["b1_p7"]), (["MatMul"], ["b1_p7", "b2_rightpad_prefill"])):
            case = self.case(golden, ops=ops)
            case.description["scenarios"] = {"b2_rightpad_prefill": {"ok": False}}
            self.assertEqual(case.scenarios(), expected)

    def test_found_by_name(self):
        self.case({})
        self.case({})
        self.assertEqual([name for name, _ in find_cases(self.folder.name)], ["case0", "case1"])
        self.assertEqual([name for name, _ in find_cases(self.folder.name, "*1")], ["case1"])


if __name__ == "__main__":
    unittest.main()
