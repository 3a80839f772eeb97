"""The `smelt` program by itself: what it links, and which commands it hands over to the compiler's program beside it.

usage: program_test.py SMELT
"""
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SMELT = Path(sys.argv.pop(1))
COMPILER = """#!/bin/sh
echo "compiler: $*"
exit 7
"""


class ProgramTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.program = Path(shutil.copy(SMELT, self.folder / "smelt"))

    def tearDown(self):
        shutil.rmtree(self.folder)

    def run_with(self, *words):
        return subprocess.run([self.program, *map(str, words)], capture_output=True, text=True, stdin=subprocess.DEVNULL)

    def install_compiler(self):
        compiler = self.folder / "smelt-compiler"
        compiler.write_text(COMPILER)
        compiler.chmod(0o755)
        return compiler

    def test_needs_no_library_of_the_compiler(self):
        dynamic = subprocess.run(["readelf", "-d", SMELT], check=True, capture_output=True, text=True).stdout
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)
        self.assertIn("libc.so.6", needed)
        self.assertFalse([name for name in needed if re.search("LLVM|MLIR|onnx|protobuf|dnnl", name)])

    def test_commands_of_the_compiler_are_handed_over_with_their_words(self):
        self.install_compiler()
        model = self.folder / "a model.onnx"
        model.write_text("no artifact")
        for words in (["compile", model, "-o", "x y"], ["inspect", "--json", model], ["--help"], ["no-such-command"], []):
            done = self.run_with(*words)
            self.assertEqual((done.returncode, done.stdout), (7, f"compiler: {' '.join(map(str, words))}\n"), words)

    def test_commands_of_the_runtime_are_its_own(self):
        self.install_compiler()
        artifact = self.folder / "broken.smelt"
        artifact.write_bytes(b"SMELT\r\n\0" + bytes(100))
        for words in (["run", "missing.smelt", "text"], ["inspect", artifact], ["bench", artifact]):
            done = self.run_with(*words)
            self.assertEqual((done.returncode, done.stdout), (1, ""), words)
            self.assertIn(".smelt", done.stderr)

    def test_without_the_compiler_its_commands_are_unknown(self):
        done = self.run_with("compile", "model.onnx")
        self.assertEqual(done.returncode, 2)
        self.assertIn("unknown command 'compile'", done.stderr)

    def test_a_compiler_that_cannot_be_started_is_named(self):
        self.install_compiler().write_bytes(b"")
        (self.folder / "smelt-compiler").chmod(0o644)
        done = self.run_with("compile", "model.onnx")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"cannot start '{self.folder / 'smelt-compiler'}'", done.stderr)


if __name__ == "__main__":
    unittest.main()
