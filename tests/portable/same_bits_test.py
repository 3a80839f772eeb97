"""One artifact gives the same logits, bit for bit, on every target, for every thread count, chunking and slot.

usage: same_bits_test.py SMELT NATIVE_PROBE BUILD_DIR EXPORTS SUITE
BUILD_DIR/ARCHITECTURE/logits_probe are the probes for other architectures, run by qemu-user; artifacts are written to
BUILD_DIR. SUITE: SameBits (portable artifacts on this CPU and on Arm) or EveryTarget (all targets, on CPUs that have no
better one, and how many instructions they execute).
"""
import platform
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))
import count_instructions

SMELT, NATIVE, WORK, EXPORTS, SUITE = sys.argv[1:6]
# (case, weights, options)
CASES = [("llama_gqa/genai_fp32", "int4"), ("llama_gqa/genai_fp32", "int8", "--kv", "int8"),
         ("llama_gqa/dynamo23", "f32", "--kv", "f32"), ("gemma3_text/dynamo23", "int4", "--kv", "int8-int4"),
         ("gemma3_text/dynamo23", "f32", "--kv", "int8"),
         ("llama_gqa/genai_fp32", "n4g32"), ("llama_gqa/genai_fp32", "a5g16"), ("gemma3_text/dynamo23", "a6g64"),
         ("llama_gqa/genai_fp32", "n5g32", "--activations", "int8-group64", "--head", "s8c"),
         ("llama_gqa/genai_fp32", "s8g32", "--activations", "int16-group", "--head", "a6g32")]


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"exit code {done.returncode}: {' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def emulated(architecture, cpu):
    """The command that runs a probe on an emulated CPU."""
    if architecture == "x86_64":
        return ["qemu-x86_64", "-cpu", cpu, NATIVE]
    return [f"qemu-{architecture}", "-cpu", cpu, "-L", f"/usr/{architecture}-linux-gnu", f"{WORK}/{architecture}/logits_probe"]


def supported_targets():
    flags = Path("/proc/cpuinfo").read_text().split()
    targets = ["x86-64-v3"] if "avx2" in flags else []
    return targets + (["x86-64-v4-vbmi"] if {"avx512_vnni", "avx512vbmi"} <= set(flags) else [])


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
            arm = run(*emulated("aarch64", "max"), artifact, "best", 2, chunk, 0)
            self.assertEqual(arm, expected, f"aarch64, {chunk=}")


# (architecture, CPU, the target that it must take, the next better one, a feature that the CPU lacks for that)
CPUS = [("aarch64", "max", "aarch64-i8mm", None, None),
        ("aarch64", "neoverse-n1", "aarch64-dotprod", "aarch64-i8mm", "I8MM"),
        ("aarch64", "cortex-a72", "aarch64", "aarch64-dotprod", "ASIMDDP"),
        ("riscv64", "rv64", "riscv64", None, None)]
if platform.machine() == "x86_64":
    CPUS += [("x86_64", "Nehalem", "x86-64-v2", "x86-64-v3", "AVX2"),
             ("x86_64", "Haswell", "x86-64-v3", "x86-64-v4-vbmi", "AVX512F")]


class EveryTarget(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.artifact = count_instructions.compile_model(Path(SMELT).parent.parent, Path(WORK) / "every_target")
        cls.expected = run(*emulated(*CPUS[0][:2]), cls.artifact, "best", 2, 0, 0)

    def fails(self, *command):
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1, done.stdout[:200])
        return done.stderr

    def test_an_artifact_without_code_for_this_cpu(self):
        error = self.fails(*emulated("aarch64", "max"), self.artifact, "x86-64-v3-avxvnni", 1, 0, 0)
        self.assertIn("it holds no code for x86-64-v3-avxvnni, but for", error)
        for target in count_instructions.TARGETS:
            self.assertIn(target, error)

    def test_instructions_are_those_on_record(self):
        over = count_instructions.over_record(count_instructions.count(Path(SMELT).parent.parent, self.artifact))
        self.assertEqual(over, [], "count_instructions.py --record, if that is meant")


def check_cpu(self, architecture, cpu, target, better, lacks):
    probe = emulated(architecture, cpu)
    self.assertEqual(run(*probe, self.artifact, "best", 2, 0, 0), self.expected)
    self.assertEqual(run(*probe, self.artifact, target, 1, 13, 1), self.expected)
    if better:
        error = self.fails(*probe, self.artifact, better, 1, 0, 0)
        self.assertIn(f"{better} needs what this CPU lacks", error)
        self.assertIn(lacks, error)


for cpu in CPUS:
    setattr(EveryTarget, f"test_{cpu[0]}_{cpu[1]}".replace("-", "_"), lambda self, cpu=cpu: check_cpu(self, *cpu))
for case, weights, *options in CASES:
    name = f"test_{case}_{weights}".replace("/", "_")
    setattr(SameBits, name, lambda self, arguments=(case, weights, *options): self.check(*arguments))

if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], SUITE], verbosity=2)
