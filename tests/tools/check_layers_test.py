#!/usr/bin/env python3
"""Tests check_layers.py: a sound tree passes, and every kind of violation is found.

usage: check_layers_test.py
"""
import os
import subprocess
import sys
import tempfile

CHECK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "check_layers.py")
SOUND = {
    "runtime/base/a.h": "#include <vector>\n",
    "runtime/artifact/format.h": "#include <cstdint>\n",
    "runtime/tools/options.def": 'OPTION(run, "speed", 0, OptionType::Flag, "", "", "help")\n',
    "runtime/tools/run.cpp": '#include "runtime/base/a.h"\nbool f() { return flag("speed"); }\n',
    "passes/raise/p.cpp": '#include "mlir/IR/Builders.h"\n#include "calibration/graph.h"\n',
    ".gitignore": "/build/\n*.smelt\n",
    "build/made.txt": "",
    "model.smelt": "",
    "compiler/driver/main.cpp": '#include "runtime/tools/cli.h"\nauto x = getenv("HOME");\n',
}
# Path, content, part of the message.
VIOLATIONS = [
    ("runtime/base/b.cpp", '#include "llvm/ADT/StringRef.h"\n', "may not use llvm"),
    ("runtime/base/b.cpp", '#include "compiler/driver/x.h"\n', "may use only"),
    ("runtime/artifact/format.h", '#include "runtime/base/a.h"\n', "may use only"),
    ("runtime/model/m.cpp", "#include <immintrin.h>\n", "intrinsics"),
    ("runtime/model/m.cpp", 'auto x = getenv("HOME");\n', "environment"),
    ("calibration/c.cpp", '#include <mlir/IR/Value.h>\n', "may not use mlir"),
    ("calibration/c.cpp", '#include "passes/raise/p.h"\n', "may use only"),
    ("passes/raise/q.cpp", '#include "onnx/onnx_pb.h"\n', "may not use onnx"),
    ("passes/raise/q.cpp", '#include "runtime/model/session.h"\n', "may use only"),
    ("compiler/onnx/i.cpp", '#include "passes/raise/p.h"\n', "may use only"),
    ("runtime/model/long.cpp", "\n" * 801, "801 lines"),
    ("notes.txt", "", "top level"),
    ("runtime/tools/options.def", 'OPTION(run, "dead", 0, OptionType::Flag, "", "", "help")\n', "nothing reads --dead"),
]


def run(files):
    with tempfile.TemporaryDirectory() as root:
        for path, content in files.items():
            os.makedirs(os.path.dirname(os.path.join(root, path)) or root, exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write(content)
        done = subprocess.run([sys.executable, CHECK, root], capture_output=True, text=True)
        return done.returncode, done.stderr


def main():
    failed = 0
    code, messages = run(SOUND)
    if code != 0:
        print(f"a sound tree was refused:\n{messages}", file=sys.stderr)
        failed += 1
    for path, content, expected in VIOLATIONS:
        code, messages = run({**SOUND, path: content})
        if code == 0 or expected not in messages or len(messages.splitlines()) != 1:
            print(f"{path}: expected one message with '{expected}', found:\n{messages}", file=sys.stderr)
            failed += 1
    print(f"{len(VIOLATIONS) + 1} cases, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
