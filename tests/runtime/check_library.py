#!/usr/bin/env python3
"""Checks libsmelt.so: under 1 MB stripped, no libraries but the C and C++ ones, no symbols but those of smelt.h.

usage: check_library.py LIBRARY STRIP HEADER
"""
import os
import re
import subprocess
import sys
import tempfile

MAX_BYTES = 1_000_000
ALLOWED = re.compile(r"^(libc\.so\.6|libstdc\+\+\.so\.6|libm\.so\.6|libgcc_s\.so\.1|ld-linux.*)$")


def main():
    library, strip, header = sys.argv[1:]
    problems = []

    with tempfile.TemporaryDirectory() as folder:
        stripped = os.path.join(folder, "stripped.so")
        subprocess.run([strip, "--strip-unneeded", "-o", stripped, library], check=True)
        size = os.path.getsize(stripped)
    if size >= MAX_BYTES:
        problems.append(f"{size} bytes stripped, expected less than {MAX_BYTES}")

    dynamic = subprocess.run(["readelf", "-d", library], check=True, capture_output=True, text=True).stdout
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)
    problems += [f"needs {name}" for name in needed if not ALLOWED.match(name)]

    symbols = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    exported = {line.split()[-1].split("@")[0] for line in symbols.splitlines()}
    with open(header, encoding="utf-8") as file:
        declared = set(re.findall(r"SMELT_API[^;(]*?\b(smelt_\w+)\(", file.read()))
    problems += [f"exports {name}, which smelt.h does not declare" for name in sorted(exported - declared)]
    problems += [f"does not export {name}, which smelt.h declares" for name in sorted(declared - exported)]

    print(f"{size} bytes stripped; needs {', '.join(needed)}; exports {len(exported)} symbols")
    for problem in problems:
        print(f"{library}: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
