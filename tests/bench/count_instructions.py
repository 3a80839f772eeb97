#!/usr/bin/env python3
"""Counts the instructions that a prefill of 8 tokens and one decoded token execute, for every target.

    count_instructions.py BUILD_FOLDER [--json | --check | --record]

The model has two layers of width 256 with random weights (make_large.py --shape small) in n5g32 and a6g32, INT8 cache. Emulated
targets are counted by a QEMU plugin, AVX-512 by single steps where this CPU has it; AVX-VNNI is not counted: QEMU 7.2 lacks it.
The counts depend on the target and the versions of LLVM (kernels) and GCC (runtime), not on the machine or its load.
--check fails where more than 5 % are executed than instructions.json records; --record writes that file.
"""
import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
RECORD = HERE / "instructions.json"
MOST = 1.05
STEPS = ("prefill 8", "decode at 72")
# target: (architecture, emulated CPU)
EMULATED = {"x86-64-v3": ("x86_64", "max"), "x86-64-v2": ("x86_64", "max"), "aarch64-i8mm": ("aarch64", "max"),
            "aarch64-dotprod": ("aarch64", "max"), "aarch64": ("aarch64", "max"), "riscv64": ("riscv64", "rv64")}
STEPPED = {"x86-64-v4-vbmi": "avx512vbmi"}
TARGETS = [*STEPPED, *EMULATED]


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"exit code {done.returncode}: {' '.join(map(str, command))}\n{done.stderr}")
    return done


def compile_model(build, folder):
    """The artifact with all targets that are counted."""
    run(sys.executable, HERE.parent / "exports/make_large.py", folder, "--shape", "small")
    artifact = folder / "small.smelt"
    run(build / "bin/smelt", "compile", folder / "model.onnx", "-o", artifact, "--weights", "n5g32", "--head", "a6g32",
        "--effort", "0", "--context", "128", "--kernel-cache", "none", "--quiet", "--target", ",".join(TARGETS))
    return artifact


def count(build, artifact):
    """{target: {step: instructions}} of the targets that can be counted here."""
    probes, flags = build / "tests/portable", Path("/proc/cpuinfo").read_text().split()
    commands = {}
    for target, flag in STEPPED.items():
        if flag in flags:
            commands[target] = [probes / "instruction_probe", artifact, target, "step"]
    for target, (architecture, cpu) in EMULATED.items():
        emulator = [f"qemu-{architecture}", "-cpu", cpu, "-plugin", probes / "libcount_instructions.so"]
        if architecture == "x86_64":
            commands[target] = [*emulator, probes / "instruction_probe", artifact, target]
        else:
            commands[target] = [*emulator, "-L", f"/usr/{architecture}-linux-gnu", probes / architecture / "instruction_probe",
                                artifact, target]
    counts = {}
    for target, command in commands.items():
        numbers = [int(n) for n in re.findall(r"^instructions (\d+)$", run(*command).stderr, re.M)]
        if len(numbers) != len(STEPS):
            raise SystemExit(f"{target}: {len(numbers)} counts where {len(STEPS)} were expected")
        counts[target] = dict(zip(STEPS, numbers))
    return counts


def versions():
    llvm = run("llvm-config-22", "--version").stdout.strip()
    return {"llvm": llvm, "gcc": run("g++", "-dumpfullversion").stdout.strip()}


def regressions(base, change):
    """Prints both, side by side; the lines that are over the limit."""
    bad = []
    for target in base:
        for step in STEPS if target in change else ():
            ratio = change[target][step] / base[target][step]
            line = f"{target:16} {step:13} {base[target][step]:>12,} {change[target][step]:>12,} {ratio:7.3f}"
            print(line)
            if ratio > MOST:
                bad.append(line)
    return bad


def over_record(counts):
    """The lines of what executes more than instructions.json allows."""
    record = json.loads(RECORD.read_text())
    if record["versions"] != versions():
        print(f"recorded with {record['versions']}, here are {versions()}")
    return regressions(record["counts"], counts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path)
    group = parser.add_mutually_exclusive_group()
    for option in ("json", "check", "record"):
        group.add_argument(f"--{option}", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = count(arguments.build, compile_model(arguments.build, Path(folder)))
    if arguments.record:
        missing = [target for target in STEPPED if target not in counts]
        if missing:
            raise SystemExit(f"this CPU cannot count {', '.join(missing)}: record on one that can")
        RECORD.write_text(json.dumps({"versions": versions(), "counts": counts}, indent=2) + "\n")
    elif arguments.json:
        print(json.dumps(counts))
    elif arguments.check:
        bad = over_record(counts)
        if bad:
            raise SystemExit("more than 5 % over the record (if that is meant: --record):\n" + "\n".join(bad))
    else:
        for target, steps in counts.items():
            print(f"{target:16}", *(f"{step}: {number:,}" for step, number in steps.items()), sep="  ")


if __name__ == "__main__":
    main()
