#!/usr/bin/env python3
"""Checks the layer table of the design: who may include whom, file by file, and the house rules that go with it (size of
files, intrinsics, environment variables, options that nothing reads, what stands at the top level).

usage: check_layers.py SOURCE_FOLDER
"""
import fnmatch
import os
import re
import sys

# Groups of headers that are not our own, by the beginning of the included path.
GROUPS = {
    "mlir": ("mlir/",),
    "llvm": ("llvm/", "llvm-c/", "lld/"),
    "onnx": ("onnx/",),
    "protobuf": ("google/protobuf/",),
    "algebra": ("dnnl", "oneapi/dnnl", "Eigen/", "cblas.h"),
    "json": ("nlohmann/",),
    "cli": ("CLI/",),
    "gpu": ("cuda", "vulkan/", "CL/"),
    "test": ("gtest/", "gmock/"),
}
# The layers, the deepest folder first: (folder, own folders it may include, groups it may include). A missing group is
# forbidden; headers of the C, C++ and operating system libraries are allowed everywhere.
LAYERS = [
    ("runtime/artifact/format.h", (), ()),
    ("runtime/formats", ("runtime/formats", "runtime/base"), ()),
    ("runtime/base", ("runtime/base",), ()),
    ("runtime/include", ("smelt",), ()),
    ("runtime", ("runtime", "smelt"), ()),
    ("calibration", ("calibration", "runtime/formats", "runtime/base"), ("algebra", "json")),
    ("compiler/dialect", ("compiler/dialect", "runtime/formats", "runtime/base"), ("mlir", "llvm")),
    ("compiler/weights", ("compiler/weights", "calibration", "runtime/formats", "runtime/base"), ()),
    ("compiler/onnx", ("compiler/onnx", "compiler/dialect", "compiler/weights", "runtime/base", "runtime/formats"),
     ("onnx", "protobuf", "mlir", "llvm")),
    ("compiler/tokenizer", ("compiler/tokenizer", "runtime/tokenizer", "runtime/base"), ("json",)),
    ("compiler/codegen", ("compiler/codegen", "compiler/dialect", "passes", "runtime/base", "runtime/artifact/format.h",
                          "runtime/devices/targets.def"), ("mlir", "llvm")),
    ("compiler/artifact", ("compiler/artifact", "compiler/codegen", "compiler/dialect", "passes", "calibration", "runtime"),
     ("mlir", "llvm", "json")),
    ("compiler/driver", ("compiler", "passes", "calibration", "runtime"), ("mlir", "llvm", "onnx", "json", "algebra")),
    ("passes", ("passes", "compiler/dialect", "calibration", "runtime/formats", "runtime/base",
                "runtime/artifact/format.h", "runtime/artifact/image.h", "runtime/devices/targets.def"), ("mlir", "llvm")),
]
INTRINSICS = re.compile(r"^(immintrin|x86intrin|emmintrin|arm_neon|arm_sve|riscv_vector)\.h$")
INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]')
SOURCES = (".h", ".hpp", ".c", ".cpp", ".inc", ".def", ".td")
MOST_LINES = 800
TOP_LEVEL = {"CMakeLists.txt", "CMakePresets.json", "LICENSE", "README.md", "compiler", "passes", "runtime", "calibration",
             "tests", "examples"}


def layer_of(path):
    for layer in LAYERS:
        if path == layer[0] or path.startswith(layer[0] + "/"):
            return layer
    return None


def group_of(include):
    for group, beginnings in GROUPS.items():
        if include.startswith(beginnings):
            return group
    return None


def is_inside(include, folders):
    return any(include == folder or include.startswith(folder + "/") for folder in folders)


def check_file(root, path, problems):
    layer = layer_of(path)
    with open(os.path.join(root, path), encoding="utf-8") as file:
        lines = file.read().splitlines()
    if len(lines) > MOST_LINES and not path.endswith(".inc"):
        problems.append(f"{path}: {len(lines)} lines, at most {MOST_LINES} are allowed; split it")
    if not layer:
        return
    folder, own, groups = layer
    code = not path.endswith(".td")
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if match and code:
            include = match.group(1)
            group = group_of(include)
            where = f"{path}:{number}: includes {include}"
            if INTRINSICS.match(include):
                problems.append(f"{where}; intrinsics are for generated code only")
            elif group and group not in groups:
                problems.append(f"{where}; {folder} may not use {group}")
            elif "/" in include and is_inside(include, ("runtime", "compiler", "passes", "calibration", "tests")) \
                    and not is_inside(include, own):
                problems.append(f"{where}; {folder} may use only {', '.join(own) or 'nothing of ours'}")
        if "getenv(" in line and not path.startswith("compiler/driver/"):
            problems.append(f"{path}:{number}: reads the environment; only the driver may")


def check_options(root, folder, problems):
    """Every option of a table is read somewhere in its folder."""
    path = os.path.join(folder, "options.def")
    if not os.path.exists(os.path.join(root, path)):
        return
    code = ""
    for name in sorted(os.listdir(os.path.join(root, folder))):
        if name.endswith(".cpp"):
            with open(os.path.join(root, folder, name), encoding="utf-8") as file:
                code += file.read()
    with open(os.path.join(root, path), encoding="utf-8") as file:
        for option in sorted(set(re.findall(r'^OPTION\(\w+, "([^"]+)"', file.read(), re.M))):
            if f'"{option}"' not in code:
                problems.append(f"{path}: nothing reads --{option}")


def made_patterns(root):
    """What users of a checkout make beside its files, as .gitignore names it."""
    path = os.path.join(root, ".gitignore")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [line.strip().strip("/") for line in file if line.strip()]


def main():
    root = sys.argv[1]
    made = made_patterns(root)
    problems = []
    for folder in ("runtime/tools", "compiler/driver", "compiler/opt"):
        check_options(root, folder, problems)
    count = 0
    for entry in sorted(os.listdir(root)):
        if not entry.startswith(".") and entry not in TOP_LEVEL and not any(fnmatch.fnmatch(entry, p) for p in made):
            problems.append(f"{entry}: does not belong at the top level")
    for top in ("runtime", "calibration", "compiler", "passes", "tests", "examples"):
        for folder, _, files in os.walk(os.path.join(root, top)):
            for name in sorted(files):
                if name.endswith(SOURCES):
                    count += 1
                    check_file(root, os.path.relpath(os.path.join(folder, name), root), problems)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{count} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
