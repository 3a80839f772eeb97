"""All cases of ../shared/exports through tests/exports/run: nothing is wrong or crashes, and what ran once still runs.

usage: cases_test.py BUILD_DIR CASES_DIR
"""
import subprocess
import sys
from pathlib import Path

# Cases whose scenarios must all be right; others may be refused.
REQUIRED = ["gemma3_text/dynamo23", "gemma3_text/optimum", "gpt2/optimum", "llama_gqa/dynamo18", "llama_gqa/dynamo23",
            "llama_gqa/genai_fp32", "llama_gqa/hfnative", "llama_gqa/optimum", "phi3/genai_fp32", "phi3/optimum", "qwen2/genai_fp32",
            "qwen2/optimum"]


def main():
    done = subprocess.run([sys.executable, str(Path(__file__).with_name("run")), sys.argv[2], "--build", sys.argv[1], "--jobs", "2"],
                          capture_output=True, text=True)
    print(done.stdout + done.stderr)
    verdicts = {}
    for line in done.stdout.splitlines()[:-1]:
        case, _, verdict = line.split()[:3]
        verdicts.setdefault(case, set()).add(verdict)
    missing = [case for case in REQUIRED if verdicts.get(case) != {"ok"}]
    if missing:
        print(f"not all right: {', '.join(missing)}")
    return 1 if missing or done.returncode != 0 else 0


if __name__ == "__main__":
    sys.exit(main())
