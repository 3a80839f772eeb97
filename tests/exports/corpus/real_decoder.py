"""A real decoder by optimum and, with --genai, by the genai builder, from a Hugging Face checkpoint.

  venv457/bin/python real_decoder.py CHECKPOINT OUT [--genai fp32] [--prompt TEXT]

Writes OUT/model.onnx, its configuration and the tokenizer, and OUT/golden.json: the prompt's tokens, the greedy continuation
by float32 torch, and the logits at the prompt's last position.
"""
import argparse
import contextlib
import glob
import io
import json
import os
import shutil

import torch


def config_of(source):
    """A checkpoint's configuration; transformers 5 keeps the rotary base where 4.57 does not look."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source)
    raw = json.load(open(os.path.join(source, "config.json")))
    rope = raw.get("rope_parameters") or {}
    if "rope_theta" in rope:
        config.rope_theta = rope["rope_theta"]
        scaling = {k: v for k, v in rope.items() if k != "rope_theta"}
        config.rope_scaling = None if scaling.get("rope_type", "default") == "default" else scaling
    return config


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("out")
    parser.add_argument("--genai", help="precision")
    parser.add_argument("--prompt", default="The capital of France is")
    args = parser.parse_args()
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    os.makedirs(args.out, exist_ok=True)
    config = config_of(args.checkpoint)
    model = AutoModelForCausalLM.from_pretrained(args.checkpoint, config=config, dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=os.path.join(args.checkpoint, "tokenizer.json"))
    ids = tokenizer([args.prompt], return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        logits = model(**ids).logits[0, -1]
        text = model.generate(**ids, max_new_tokens=24, do_sample=False)[0]
    golden = {"prompt": args.prompt, "input_ids": ids["input_ids"][0].tolist(), "greedy": text.tolist(), "text": tokenizer.decode(text),
              "last_logits": [round(x, 6) for x in logits.tolist()]}
    if args.genai:
        from onnxruntime_genai.models import builder

        with contextlib.redirect_stdout(io.StringIO()):
            extra = builder.parse_extra_options([], "cpu")
            builder.create_model("", args.checkpoint, args.out, args.genai, "cpu", os.path.join(args.out, "cache"), **extra)
        shutil.rmtree(os.path.join(args.out, "cache"), ignore_errors=True)
    else:
        from optimum.exporters.onnx import onnx_export_from_model

        onnx_export_from_model(model, args.out, opset=18, task="text-generation-with-past", do_validation=False, device="cpu")
    for path in glob.glob(os.path.join(args.checkpoint, "*token*")) + [os.path.join(args.checkpoint, "config.json")]:
        shutil.copy(path, args.out)
    with open(os.path.join(args.out, "golden.json"), "w") as f:
        json.dump(golden, f)
    print(golden["text"])


if __name__ == "__main__":
    main()
