"""Exports compiled with float weights meet their golden logits, through the C interface.

usage: compiled_logits_test.py SMELT LIBSMELT EXPORTS WORK_DIR
Every case is tried: the required ones must compile, others may be refused with the list of what was not raised.
"""
import ctypes
import subprocess
import sys
import unittest
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "golden"))
from exports_test import TOLERANCE, ragged  # noqa: E402

SMELT, LIBRARY, EXPORTS, WORK = sys.argv[1], ctypes.CDLL(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
REQUIRED = {"llama_gqa/genai_fp32", "llama_gqa/dynamo23", "gemma3_text/dynamo23"}
SLOTS, ROWS = 2, 4


class SessionOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("context", ctypes.c_uint32), ("slots", ctypes.c_uint32),
                ("threads", ctypes.c_uint32)]


class Token(ctypes.Structure):
    _fields_ = [("id", ctypes.c_int32), ("position", ctypes.c_int32), ("slot", ctypes.c_int32)]


LIBRARY.smelt_last_error.restype = ctypes.c_char_p
LIBRARY.smelt_logits.restype = ctypes.POINTER(ctypes.c_float)
LIBRARY.smelt_logits.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def check(status):
    if status != 0:
        raise AssertionError(LIBRARY.smelt_last_error().decode())


def logits(artifact, tokens, vocabulary):
    """Logits of every token of a ragged batch, fed in steps of ROWS tokens."""
    model, session = ctypes.c_void_p(), ctypes.c_void_p()
    check(LIBRARY.smelt_model_open(str(artifact).encode(), None, ctypes.byref(model)))
    options = SessionOptions(ctypes.sizeof(SessionOptions), 128, SLOTS, 2)
    check(LIBRARY.smelt_session_create(model, ctypes.byref(options), ctypes.byref(session)))
    found = []
    for at in range(0, len(tokens), ROWS):
        part = tokens[at : at + ROWS]
        batch = (Token * len(part))(*[Token(*map(int, t)) for t in part])
        rows = (ctypes.c_int32 * len(part))(*range(len(part)))
        check(LIBRARY.smelt_step(session, batch, ctypes.c_size_t(len(part)), rows, ctypes.c_size_t(len(part))))
        for row in range(len(part)):
            found.append(np.ctypeslib.as_array(LIBRARY.smelt_logits(session, row), (vocabulary,)).copy())
    LIBRARY.smelt_session_free(session)
    LIBRARY.smelt_model_close(model)
    return np.array(found)


class CompiledLogits(unittest.TestCase):
    def check_case(self, name):
        folder = EXPORTS / "cases" / name
        inputs, golden = np.load(folder / "inputs.npz"), np.load(folder / "golden.npz")
        artifact = WORK / (name.replace("/", "_") + ".smelt")
        done = subprocess.run([SMELT, "compile", str(folder / "model.onnx"), "-o", str(artifact), "--weights", "f32",
                               "--target", "native", "--context", "128", "--quiet"], capture_output=True, text=True)
        if done.returncode != 0:
            self.assertNotIn(name, REQUIRED, done.stderr)
            self.assertGreater(done.returncode, 0, "a crash, not a refusal")
            self.assertTrue(done.stderr.strip(), "a refusal says why")
            return
        scenarios = sorted({key.split("/")[0] for key in inputs.files})
        met = 0
        for scenario in scenarios:
            if "genai" in name and "leftpad" in scenario:
                continue  # GroupQueryAttention means right padding only
            tokens, expected = ragged(inputs, golden, scenario)
            if len(tokens) == 0:
                continue
            expected = np.array(expected)
            actual = logits(artifact, tokens, expected.shape[-1])
            worst = np.abs(actual - expected).max()
            self.assertLessEqual(worst, TOLERANCE, f"{name} {scenario}")
            met += 1
        self.assertGreater(met, 0, "no scenario had logits")


def add(case):
    setattr(CompiledLogits, "test_" + case.replace("/", "_"), lambda self: self.check_case(case))


for path in sorted((EXPORTS / "cases").glob("*/*")):
    case = f"{path.parent.name}/{path.name}"
    # Pre-quantized graphs have golden logits of integer arithmetic, which float weights need not meet.
    if not any(tag in path.name for tag in ("int4", "int8", "ortq")):
        add(case)

if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
