"""Models on a GPU say what they say on the CPU: Mesa's lavapipe runs the Vulkan code of small exports.

usage: gpu_model_test.py SMELT GPU_PROBE WORK_DIR EXPORTS LAVAPIPE        (LAVAPIPE: its driver's file for the Vulkan loader)
"""
import os
import subprocess
import sys
import unittest
from pathlib import Path

SMELT, PROBE, WORK, EXPORTS, LAVAPIPE = sys.argv[1:6]
# VK_DRIVER_FILES is the newer name.
ENVIRONMENT = dict(os.environ, VK_DRIVER_FILES=LAVAPIPE, VK_ICD_FILENAMES=LAVAPIPE)
NO_DRIVER = dict(os.environ, VK_DRIVER_FILES="/dev/null", VK_ICD_FILENAMES="/dev/null")


def start(*command, environment=ENVIRONMENT):
    return subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment)


def run(*command):
    done = start(*command)
    if done.returncode != 0:
        raise AssertionError(f"exit code {done.returncode}: {' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def compiled(case, weights, *options, target="native,vulkan"):
    artifact = Path(WORK) / f"gpu_{case.replace('/', '_')}_{weights}_{target.replace(',', '_')}.smelt"
    run(SMELT, "compile", Path(EXPORTS) / "cases" / case / "model.onnx", "-o", artifact, "--weights", weights,
        "--context", "128", "--target", target, "--quiet", *options)
    return artifact


class Models(unittest.TestCase):
    def check(self, bound, case, weights, *options):
        artifact = compiled(case, weights, *options)
        self.compare(bound, artifact, artifact, "vulkan")

    def compare(self, bound, on_cpu, on_gpu, device):
        """`bound`: of the largest difference of a logit, in standard deviations of the logits."""
        result = dict(line.split(" ", 1) for line in run(PROBE, on_cpu, on_gpu, device).splitlines())
        self.assertLessEqual(float(result["error"]), bound, "logits differ from the CPU's")
        self.assertEqual(result["same"], "1", "logits depend on slot or chunking")
        self.assertEqual(result["tokens"], "24 of 24", "greedy tokens differ from the CPU's")

    # Sums are added in another order: a few hundred roundings of 2^-24.
    def test_float_weights_and_cache(self):
        self.check(1e-4, "llama_gqa/dynamo23", "f32", "--kv", "f32")

    def test_layer_norms_and_positions(self):
        self.check(1e-4, "gpt2/optimum", "f32")

    # Where an activation lies between two INT8 codes, another order of sums may choose the other one.
    def test_int4(self):
        self.check(0.05, "llama_gqa/genai_fp32", "int4")

    def test_no_code_for_cpus(self):
        case = "llama_gqa/genai_fp32"
        on_gpu = compiled(case, "int4", target="vulkan")
        self.compare(0.05, compiled(case, "int4"), on_gpu, "auto")
        done = start(SMELT, "run", on_gpu, "--raw", "--device", "cpu", "hello")
        self.assertEqual(done.returncode, 1)
        self.assertIn("it holds no code for any target known to this smelt, but for GPUs (vulkan); choose one with --device", done.stderr)
        self.assertIn("but for GPUs (vulkan)", run(SMELT, "inspect", on_gpu, "--verify"))

    def test_int8_weights_and_cache(self):
        self.check(0.05, "llama_gqa/genai_fp32", "int8", "--kv", "int8")

    def test_windows_head_norms_and_int4_values(self):
        self.check(0.05, "gemma3_text/dynamo23", "int4", "--kv", "int8-int4")


class Devices(unittest.TestCase):
    def test_list(self):
        text = run(SMELT, "devices")
        self.assertRegex(text, r"(?m)^cpu  .*code for ")
        self.assertRegex(text, r"(?m)^vulkan:0 +llvmpipe.*`auto` does not take it$")

    def test_list_without_driver(self):
        self.assertIn("vulkan    not used", start(SMELT, "devices", environment=NO_DRIVER).stdout)

    def test_run_errors(self):
        artifact = compiled("llama_gqa/genai_fp32", "int4", target="native")
        for device, message in [("vulkan", "holds no code for Vulkan"), ("gpu", "unknown device 'gpu'"),
                                ("vulkan:x", "expected a number"), ("vulkan:-1", "expected a number")]:
            done = start(SMELT, "run", artifact, "--raw", "--device", device, "hello")
            self.assertEqual(done.returncode, 1)
            self.assertIn(message, done.stderr)
        artifact = compiled("llama_gqa/genai_fp32", "int4")
        self.assertIn("there is no device 7", start(SMELT, "run", artifact, "--raw", "--device", "vulkan:7", "hello").stderr)

    def test_automatic_choice_takes_the_cpu(self):
        artifact = compiled("llama_gqa/genai_fp32", "int4")
        # Without a tokenizer text is refused, after the device was chosen.
        self.assertNotIn("vulkan", start(SMELT, "run", artifact, "--raw", "--device", "auto", "hello").stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
