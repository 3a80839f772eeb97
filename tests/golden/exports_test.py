#!/usr/bin/env python3
"""Checks one case of ../shared/exports: exports_test.py TOOL CASE_DIR must|may

`must`: the model is raised and every scenario meets its golden logits. `may`: the same, or a clean refusal that lists nodes.
Steps of a scenario become one ragged batch: padding is left out, a token's position is its index among its slot's tokens.
"""
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "exports"))
from cases import Case, ragged  # noqa: E402


def largest_error(case):
    """The tolerance of the recorded goldens as a bound of the largest error."""
    _, tolerance = case.goldens()[-1]
    spread = max([float(np.std(case.golden[name])) for name in case.golden.files if name.endswith("logits")], default=1.0)
    # The largest of some thousand errors is within five deviations.
    bound = tolerance.bound * (1 if tolerance.kind == "absolute" else spread)
    return bound * (5 if tolerance.kind == "rms" else 1)


def write_scenarios(case, path):
    with open(path, "wb") as out:
        for scenario in case.scenarios():
            steps = ragged(case, scenario)
            # The reference gives every token type 0; tests/exports covers the others.
            if steps is None or any(any(step.types) for step in steps):
                continue
            tokens, rows = [], []
            for step in steps:
                first = len(tokens)
                tokens += step.tokens
                rows += [first + row for row in step.rows]
            logits = np.concatenate([step.golden for step in steps])
            name = scenario.encode()
            out.write(struct.pack("<i", len(name)) + name)
            out.write(struct.pack("<iii", len(tokens), len(rows), len(logits[0])))
            out.write(np.asarray(tokens, np.int32).tobytes())
            out.write(np.asarray(rows, np.int32).tobytes())
            out.write(np.asarray(logits, np.float32).tobytes())


def main():
    tool, case, expectation = sys.argv[1], Case(sys.argv[2]), sys.argv[3]
    with tempfile.TemporaryDirectory() as folder:
        scenarios = Path(folder) / "scenarios"
        write_scenarios(case, scenarios)
        run = subprocess.run([tool, str(case.model), str(scenarios), str(largest_error(case))],
                             capture_output=True, text=True)
    print(run.stdout + run.stderr)
    if run.returncode == 0:
        return 0
    is_refusal = run.returncode == 2 and "not raised" in run.stdout and "closest pattern" in run.stdout
    if is_refusal and expectation == "may":
        return 0
    print(f"exit code {run.returncode}, expected {'success' if expectation == 'must' else 'success or a refusal'}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
