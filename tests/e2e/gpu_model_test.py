"""Models on a GPU say what they say on the CPU: Mesa's lavapipe runs the Vulkan code of small exports, the tests' own driver
their PTX.

usage: gpu_model_test.py SMELT GPU_PROBE WORK_DIR EXPORTS LAVAPIPE FAKE_CUDA
       LAVAPIPE: its driver's file for the Vulkan loader; FAKE_CUDA: the folder of libcuda.so.1
"""
import functools
import os
import subprocess
import sys
import unittest
from pathlib import Path

SMELT, PROBE, WORK, EXPORTS, LAVAPIPE, FAKE_CUDA = sys.argv[1:7]
# VK_DRIVER_FILES is the newer name.
ENVIRONMENT = dict(os.environ, VK_DRIVER_FILES=LAVAPIPE, VK_ICD_FILENAMES=LAVAPIPE, LD_LIBRARY_PATH=FAKE_CUDA)
NO_CUDA = Path(WORK) / "no_cuda"
NO_DRIVER = dict(os.environ, VK_DRIVER_FILES="/dev/null", VK_ICD_FILENAMES="/dev/null", LD_LIBRARY_PATH=str(NO_CUDA))


def start(*command, environment=ENVIRONMENT):
    return subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment)


def run(*command):
    done = start(*command)
    if done.returncode != 0:
        raise AssertionError(f"exit code {done.returncode}: {' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


@functools.cache
def compiled(case, weights, *options, target="native,vulkan,cuda"):
    name = "_".join((case.replace("/", "_"), weights, target.replace(",", "_"), *(o.strip("-") for o in options)))
    artifact = Path(WORK) / f"gpu_{name}.smelt"
    run(SMELT, "compile", Path(EXPORTS) / "cases" / case / "model.onnx", "-o", artifact, "--weights", weights,
        "--context", "128", "--target", target, "--quiet", *options)
    return artifact


def probed(*arguments):
    return dict(line.split(" ", 1) for line in run(PROBE, *arguments).splitlines())


class Models(unittest.TestCase):
    def check(self, bound, case, weights, *options):
        artifact = compiled(case, weights, *options)
        for device in ("vulkan", "cuda:0"):
            with self.subTest(device):
                self.compare(bound, artifact, artifact, device)

    def compare(self, bound, on_cpu, on_gpu, device, *layers):
        """`bound`: of the largest difference of a logit, in standard deviations of the logits."""
        result = probed("compare", on_cpu, on_gpu, device, *layers)
        self.assertLessEqual(float(result["error"]), bound, "logits differ from the CPU's")
        self.assertEqual(result["same"], "1", "logits depend on slot or chunking")
        self.assertEqual(result["tokens"], "24 of 24", "greedy tokens differ from the CPU's")
        self.assertEqual(result["likeliest"], "24 of 24", "tokens chosen on the device differ from the CPU's")
        self.assertEqual(result["sampled"], "1", "tokens drawn of the likeliest differ from those drawn of all logits")

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

    def test_layers_on_the_gpu_and_on_the_cpu(self):
        artifact = compiled("llama_gqa/genai_fp32", "int4")
        for layers in 0, 1:
            self.compare(0.05, artifact, artifact, "vulkan", layers)
        artifact = compiled("gemma3_text/dynamo23", "int4", "--kv", "int8-int4")
        self.compare(0.05, artifact, artifact, "vulkan", 2)
        # A GPU alone cannot leave layers to a CPU without code.
        done = start(PROBE, "compare", artifact, compiled("llama_gqa/genai_fp32", "int4", target="vulkan"), "vulkan", 1)
        self.assertIn("cannot run on this CPU", done.stderr)

    def test_prompts_are_kept(self):
        for case, *options in (("llama_gqa/genai_fp32", "--kv", "int8"), ("gemma3_text/dynamo23", "--kv", "int8-int4")):
            for device in ("vulkan", "cuda:0"):
                with self.subTest(device):
                    result = probed("keep", compiled(case, "int4", *options), device, Path(WORK) / "gpu_prompt")
                    self.assertEqual(result["reused"], "74 1")
                    self.assertEqual(result["loaded"], "74 1")
                    self.assertLessEqual(float(result["error"]), 0.05)

    def test_memory_in_parts(self):
        result = probed("limits", compiled("llama_gqa/dynamo23", "f32", "--kv", "f32"))
        self.assertGreater(float(result["memories"]), 1)
        self.assertEqual(result["same"], "1")
        self.assertRegex(result["refused"], r"^there are \d+ bytes of .*, but kernels on llvmpipe .* reach at most \d+ of one operand; choose")

    def test_auto_takes_as_many_layers_as_fit(self):
        artifact = compiled("gemma3_text/dynamo23", "int4", "--kv", "int8-int4")  # 3 layers
        fitting = {}
        for memory in range(20000, 1000000, 20000):
            environment = dict(ENVIRONMENT, SMELT_FAKE_CUDA=f"memory={memory}")
            layers = int(start(PROBE, "fit", artifact, "cuda", environment=environment).stdout.split()[1])
            fitting.setdefault(layers, environment)
        self.assertEqual(list(fitting), sorted(fitting))  # more memory, never fewer
        self.assertIn(0, fitting)
        self.assertIn(3, fitting)
        partial = [layers for layers in fitting if 0 < layers < 3]
        self.assertTrue(partial)
        for layers in partial:
            done = start(PROBE, "compare", artifact, artifact, "auto", environment=fitting[layers])
            self.assertIn("likeliest 24 of 24", done.stdout, done.stderr)

    def test_int8_weights_and_cache(self):
        self.check(0.05, "llama_gqa/genai_fp32", "int8", "--kv", "int8")

    def test_windows_head_norms_and_int4_values(self):
        self.check(0.05, "gemma3_text/dynamo23", "int4", "--kv", "int8-int4")


class Devices(unittest.TestCase):
    def test_list(self):
        text = run(SMELT, "devices")
        self.assertRegex(text, r"(?m)^cpu  .*code for ")
        self.assertRegex(text, r"(?m)^cuda:0    Fake GPU 0$")
        self.assertRegex(text, r"(?m)^vulkan:0 +llvmpipe.*`auto` does not take it$")

    def test_list_without_driver(self):
        NO_CUDA.mkdir(exist_ok=True)
        (NO_CUDA / "libcuda.so.1").touch()  # what cannot be loaded is not there
        text = start(SMELT, "devices", environment=NO_DRIVER).stdout
        self.assertIn("cuda      not used: cuda: there is no driver", text)
        self.assertIn("vulkan    not used", text)

    def test_list_says_what_a_device_lacks(self):
        text = start(SMELT, "devices", environment=dict(ENVIRONMENT, SMELT_FAKE_CUDA="capability=75")).stdout
        self.assertIn("cuda:0    Fake GPU 0; not used: its compute capability is 7.5, 8.0 is needed", text)

    def test_run_errors(self):
        artifact = compiled("llama_gqa/genai_fp32", "int4", target="native")
        for device, message in [("vulkan", "holds no code for vulkan"), ("cuda", "holds no code for cuda"), ("gpu", "unknown device 'gpu'"),
                                ("vulkan:x", "expected a number"), ("vulkan:-1", "expected a number")]:
            done = start(SMELT, "run", artifact, "--raw", "--device", device, "hello")
            self.assertEqual(done.returncode, 1)
            self.assertIn(message, done.stderr)
        artifact = compiled("llama_gqa/genai_fp32", "int4")
        self.assertIn("there is no device 7", start(SMELT, "run", artifact, "--raw", "--device", "vulkan:7", "hello").stderr)
        self.assertIn("there is no device 7", start(SMELT, "run", artifact, "--raw", "--device", "cuda:7", "hello").stderr)
        little = dict(ENVIRONMENT, SMELT_FAKE_CUDA="memory=50000")
        self.assertRegex(start(PROBE, "compare", artifact, artifact, "cuda", environment=little).stderr,
                         "allocating [0-9]+ bytes for the weights on Fake GPU 0 failed: out of device memory, [0-9]+ bytes are free; .*--gpu-layers")

    def test_automatic_choice_takes_the_cpu(self):
        artifact = compiled("llama_gqa/genai_fp32", "int4", target="native,vulkan")
        # Without a tokenizer text is refused, after the device was chosen.
        self.assertNotIn("vulkan", start(SMELT, "run", artifact, "--raw", "--device", "auto", "hello").stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
