"""Models with weights that are no numbers are refused with the weight's name; channels of zeros cost nothing; budgets that cannot be
met, or not be measured, are told; what is stopped leaves no unfinished file; what is no file, or not smelt's own, is left alone.

usage: wrong_use_test.py SMELT MODEL ENCODER        (tiny float32 models with a vocabulary of 128)
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

SMELT, MODEL, ENCODER = sys.argv[1], *map(Path, sys.argv[2:4])
LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
# Letters and signs from "!" to "~", space and newline.
TOKENIZER = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": LEVEL,
             "post_processor": None, "decoder": LEVEL,
             "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                       "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                       "vocab": {chr(c): c - 33 for c in range(33, 127)} | {"\u0120": 94, "\u010a": 95}, "merges": []}}


def smelt(*words):
    return subprocess.run([SMELT, *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True)


class WrongUseTest(unittest.TestCase):
    def setUp(self):
        self.work = Path(tempfile.mkdtemp())
        (self.work / "tokenizer.json").write_text(json.dumps(TOKENIZER))
        self.text = self.work / "text.txt"
        self.text.write_text("".join(f"line {i} of a short text\n" for i in range(100)))

    def tearDown(self):
        shutil.rmtree(self.work)

    def changed(self, change) -> Path:
        """The model after `change` of its weights, an array by name."""
        model = onnx.load(MODEL)
        weights = {i.name: numpy_helper.to_array(i).copy() for i in model.graph.initializer}
        change(weights)
        for initializer in model.graph.initializer:
            initializer.CopyFrom(numpy_helper.from_array(weights[initializer.name], initializer.name))
        onnx.save(model, self.work / "model.onnx")
        return self.work / "model.onnx"

    def refuse(self, model, *words):
        done = smelt("compile", model, "-o", self.work / "x.smelt", "--target", "native", "-q", *words)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertFalse((self.work / "x.smelt").exists())
        return done.stderr

    def matrix(self, weights):
        return next(n for n, a in weights.items() if a.ndim == 2 and "down_proj" in n)

    def test_a_matrix_with_nan_or_infinity_is_named(self):
        for value in (np.nan, np.inf):
            found = []

            def spoil(weights):
                found.append(self.matrix(weights))
                weights[found[0]][3, 5] = value

            model = self.changed(spoil)
            for data in ([], ["--data", self.text], ["--effort", "0"]):
                said = self.refuse(model, *data)
                # The file has it as [inputs, outputs].
                self.assertRegex(said, f"weight '{found[-1]}' (is not finite|holds NaN|holds infinity) at row 5, column 3", data)

    def test_a_norm_with_nan_is_named(self):
        found = []

        def spoil(weights):
            found.append(next(n for n, a in weights.items() if a.ndim == 1 and "norm" in n))
            weights[found[0]][7] = np.nan

        said = self.refuse(self.changed(spoil))
        self.assertIn(f"weight '{found[0]}' holds NaN at row 0, column 7", said)

    def test_channels_of_zeros_cost_nothing(self):
        def silence(weights):
            for name, array in weights.items():
                if array.ndim == 1 and "norm" in name:
                    array[:32] = 0  # a whole group of inputs is silent
                elif array.ndim == 2:
                    array[:, :3] = 0  # and some columns as stored

        model = self.changed(silence)
        for words in (["--data", self.text], ["--weights", "int8", "--data", self.text]):
            done = smelt("compile", model, "-o", self.work / "x.smelt", "--target", "native", "-q", *words)
            self.assertEqual(done.returncode, 0, done.stderr)
            done = smelt("eval", self.work / "x.smelt", "-r", model, "-t", self.text, "--context", "64", "--chunks", "4", "--json", "-q")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertLess(json.loads(done.stdout)["mean_kl"], 0.5)

    def test_a_divergence_is_no_budget_for_an_encoder(self):
        model = Path(shutil.copy(ENCODER, self.work / "model.onnx"))
        said = self.refuse(model, "--max-kl", "0.01", "--data", self.text)
        self.assertIn("--max-kl measures how predicted tokens diverge", said)
        self.assertIn("give --max-size or --bits", said)

    def test_budgets_that_cannot_be_met_are_told(self):
        for words, told in ((["--bits", "1"], "--bits 1 cannot be met: the fewest found are "),
                            (["--max-size", "1000"], "cannot be met: the smallest found has ")):
            done = smelt("compile", self.changed(lambda weights: None), "-o", self.work / "x.smelt", "--target", "native", "-q",
                         "--data", self.text, *words)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(told, done.stderr)
            self.assertTrue((self.work / "x.smelt").exists())

    def test_an_attempt_under_a_budget_that_is_stopped_leaves_no_unfinished_file(self):
        work = self.work / "work"
        compiler = subprocess.Popen([SMELT, "compile", self.changed(lambda weights: None), "-o", self.work / "x.smelt", "--target", "native",
                                     "-q", "--data", self.text, "--work", work, "--kernel-cache", "none", "--max-size", "400000"],
                                    stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while compiler.poll() is None and not list(work.glob("trial.smelt.tmp-*")):
            time.sleep(0.001)
        time.sleep(0.05)
        compiler.terminate()
        self.assertEqual(compiler.wait(), -signal.SIGTERM)
        self.assertEqual(list(work.glob("*.tmp-*")), [])

    def test_text_nested_without_end_is_refused(self):
        lines = self.work / "deep.jsonl"
        lines.write_text("[" * 100000)
        model = self.changed(lambda weights: None)
        self.assertIn("deep.jsonl:1: not JSON: more than 512 levels", self.refuse(model, "--data", lines))
        lines.write_text(json.dumps({"text": "[" * 100000}) + "\n")  # brackets of a text are none
        self.assertNotIn("levels", smelt("compile", model, "-o", self.work / "x.smelt", "--effort", "1", "--data", lines, "-q", "--stop-after",
                                         "calibrated").stderr)

    def test_a_budget_with_its_work_on_another_disk(self):
        other = Path(tempfile.mkdtemp(dir="/dev/shm"))
        self.addCleanup(shutil.rmtree, other)
        done = smelt("compile", self.changed(lambda weights: None), "-o", self.work / "x.smelt", "--target", "native", "-q",
                     "--data", self.text, "--max-size", "1000000", "--work", other / "work")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(smelt("inspect", "--verify", self.work / "x.smelt").returncode, 0)
        self.assertEqual([path.name for path in (*self.work.glob("x.*"), *other.glob("*/*.smelt"))], ["x.smelt"])

    def test_a_work_folder_of_other_things_is_left_alone(self):
        thesis = self.work / "mine" / "thesis.txt"
        thesis.parent.mkdir()
        thesis.write_text("three years of work")
        said = self.refuse(self.changed(lambda weights: None), "--data", self.text, "--work", thesis.parent)
        self.assertIn("is no work folder of this smelt, and what lies in it would be lost", said)
        self.assertTrue(thesis.exists())

    def test_devices_and_pipes_are_no_files(self):
        model, pipe = self.changed(lambda weights: None), self.work / "pipe"
        os.mkfifo(pipe)
        for words, told in ((["run", pipe, "x"], "is not a regular file"), (["compile", pipe], "is not a regular file"),
                            (["inspect", pipe], "is not a regular file"), (["compile", model, "-o", pipe], "expected a file name"),
                            (["compile", model, "--stats", pipe, "-o", self.work / "x.smelt"], "is no regular file"),
                            (["compile", model, "--data", "/dev/zero", "-o", self.work / "x.smelt"], "'/dev/zero' is a device")):
            done = subprocess.run([SMELT, *map(str, words), *(["-q"] if words[0] == "compile" else [])], stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=30)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(told, done.stderr)
        self.assertTrue(pipe.is_fifo())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
