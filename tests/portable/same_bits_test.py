"""One artifact gives the same logits, bit for bit, on every target, for every thread count, chunking and slot.

usage: same_bits_test.py SMELT NATIVE_PROBE ARM_PROBE EXPORTS WORK_DIR
The 64-bit Arm code of the artifact runs under qemu-aarch64.
"""
import subprocess
import sys
import unittest
from pathlib import Path

SMELT, NATIVE, ARM, EXPORTS, WORK = sys.argv[1:6]
# (case, weights, options)
CASES = [("llama_gqa/genai_fp32", "int4"), ("llama_gqa/genai_fp32", "int8", "--kv", "int8"),
         ("llama_gqa/dynamo23", "f32", "--kv", "f32"), ("gemma3_text/dynamo23", "int4", "--kv", "int8-int4"),
         ("gemma3_text/dynamo23", "f32", "--kv", "int8"),
         ("llama_gqa/genai_fp32", "n4g32"), ("llama_gqa/genai_fp32", "a5g16"), ("gemma3_text/dynamo23", "a6g64"),
         ("llama_gqa/genai_fp32", "s8g32", "--activations", "int16-group", "--head", "a6g32")]


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"exit code {done.returncode}: {' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def supported_targets():
    flags = Path("/proc/cpuinfo").read_text().split()
    targets = ["x86-64-v3"] if "avx2" in flags else []
    return targets + (["x86-64-v4-vnni"] if "avx512_vnni" in flags else [])


class SameBits(unittest.TestCase):
    def check(self, case, weights, *options):
        artifact = Path(WORK) / f"{case.replace('/', '_')}_{weights}.smelt"
        run(SMELT, "compile", Path(EXPORTS) / "cases" / case / "model.onnx", "-o", artifact, "--weights", weights,
            "--context", "128", "--quiet", *options)
        expected = run(NATIVE, artifact, "best", 1, 0, 0)
        self.assertGreater(len(expected.split()), 10)
        for threads, chunk, slot in [(2, 0, 0), (1, 1, 1), (2, 7, 2), (2, 64, 0)]:
            self.assertEqual(run(NATIVE, artifact, "best", threads, chunk, slot), expected, f"{threads=} {chunk=} {slot=}")
        for target in supported_targets():
            self.assertEqual(run(NATIVE, artifact, target, 2, 13, 1), expected, target)
        for chunk in (0, 5):
            arm = run("qemu-aarch64", "-cpu", "max", "-L", "/usr/aarch64-linux-gnu", ARM, artifact, "best", 2, chunk, 0)
            self.assertEqual(arm, expected, f"aarch64, {chunk=}")


for case, weights, *options in CASES:
    name = f"test_{case}_{weights}".replace("/", "_")
    setattr(SameBits, name, lambda self, arguments=(case, weights, *options): self.check(*arguments))

if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
