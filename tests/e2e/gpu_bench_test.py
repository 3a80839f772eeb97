"""tests/bench/gpu works: it packs, and what it packed measures without the build, here on Mesa's lavapipe.

usage: gpu_bench_test.py BENCH BUILD WORK_DIR EXPORTS LAVAPIPE
"""
import json
import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

BENCH, BUILD, WORK, EXPORTS, LAVAPIPE = (Path(argument) for argument in sys.argv[1:6])
PACK = WORK / "gpu_pack"
ENVIRONMENT = dict(os.environ, VK_DRIVER_FILES=str(LAVAPIPE), VK_ICD_FILENAMES=str(LAVAPIPE))


def start(*command):
    return subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=ENVIRONMENT)


class Bench(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        shutil.rmtree(PACK, ignore_errors=True)
        model = EXPORTS / "cases/llama_gqa/genai_fp32/model.onnx"
        cls.packed = start(sys.executable, BENCH, "--pack", PACK, "--build", BUILD, "--exports", EXPORTS, "--targets", "native,vulkan",
                           "--shape", "small", model)

    def test_packs_what_a_lent_machine_takes(self):
        self.assertEqual(self.packed.returncode, 0, self.packed.stderr)
        self.assertEqual({file.name for file in PACK.iterdir()}, {"gpu", "pack.tar.xz"})
        self.assertLess(sum(file.stat().st_size for file in PACK.iterdir()), 16 << 20)

    def test_measures_from_the_pack(self):
        done = start(PACK / "gpu", "--device", "vulkan:0", "--short", "--json", WORK / "gpu_bench.json")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertGreaterEqual(done.stdout.count("  ok    "), 5, done.stdout)
        figures = json.loads((WORK / "gpu_bench.json").read_text())
        self.assertGreaterEqual(len(figures["devices"]["vulkan:0"]), 5)
        shape, model = (rows["vulkan:0"] for rows in figures["models"].values())
        for row in shape, model:
            self.assertGreater(row["prefill"]["16"], 0)
            self.assertGreater(row["decode"]["8"], 0)
        self.assertLess(abs(model["kl"]), 1e-3)

    def test_a_device_that_does_not_run_is_said(self):
        done = start(PACK / "gpu", "--device", "vulkan:7", "--short")
        self.assertEqual(done.returncode, 1)
        self.assertIn("there is no device 7", done.stdout)
        self.assertIn("no device ran: nothing was measured", done.stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
