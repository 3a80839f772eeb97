"""All cases of ../shared/exports through tests/exports/run: every scenario is right, none is refused.

usage: cases_test.py BUILD_DIR CASES_DIR
"""
import subprocess
import sys
from pathlib import Path


def main():
    done = subprocess.run([sys.executable, str(Path(__file__).with_name("run")), sys.argv[2], "--build", sys.argv[1], "--jobs", "2"],
                          capture_output=True, text=True)
    print(done.stdout + done.stderr)
    counts = done.stdout.splitlines()[-1] if done.stdout else ""
    is_right = done.returncode == 0 and ", 0 refused," in counts and not counts.startswith("0 ok")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
