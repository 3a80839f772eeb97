"""A real decoder by one exporter, from a Hugging Face checkpoint.

  venv457/bin/python real_decoder.py CHECKPOINT OUT [--exporter optimum|genai|dynamo18|dynamo23|hfnative] [--prompt TEXT]

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

import architectures


def config_of(source):
    """A checkpoint's configuration; transformers 5 keeps the rotary base where 4.57 does not look."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source)
    if architectures.modern():
        return config
    raw = json.load(open(os.path.join(source, "config.json")))
    rope = raw.get("rope_parameters") or {}
    if "rope_theta" in rope:
        config.rope_theta = rope["rope_theta"]
        scaling = {k: v for k, v in rope.items() if k != "rope_theta"}
        config.rope_scaling = None if scaling.get("rope_type", "default") == "default" else scaling
    return config


def export(model, args):
    path = os.path.join(args.out, "model.onnx")
    if args.exporter == "genai":
        from onnxruntime_genai.models import builder

        cache = os.path.join(args.out, "cache")
        with contextlib.redirect_stdout(io.StringIO()):
            if hasattr(builder, "get_hf_details"):
                extra = builder.parse_extra_options("", args.checkpoint, args.out, "fp32", "cpu", cache, [])
            else:
                extra = builder.parse_extra_options([], "cpu")
            builder.create_model("", args.checkpoint, args.out, "fp32", "cpu", cache, **extra)
        shutil.rmtree(cache, ignore_errors=True)
    elif args.exporter == "optimum":
        from optimum.exporters.onnx import onnx_export_from_model

        onnx_export_from_model(model, args.out, opset=18, task="text-generation-with-past", do_validation=False, device="cpu")
    elif args.exporter == "hfnative":
        import onnx_ir
        from exporter_hf import hf_decoder

        onnx_ir.save(hf_decoder(model), path, external_data="model.onnx.data")
    else:
        from exporters import dynamo_decoder

        dynamo_decoder(model, int(args.exporter[6:])).save(path, external_data=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("out")
    parser.add_argument("--exporter", default="optimum", choices=("optimum", "genai", "dynamo18", "dynamo23", "hfnative"))
    parser.add_argument("--prompt", default="The capital of France is")
    args = parser.parse_args()
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    os.makedirs(args.out, exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(args.checkpoint, config=config_of(args.checkpoint), dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=os.path.join(args.checkpoint, "tokenizer.json"))
    ids = tokenizer([args.prompt], return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        logits = model(**ids).logits[0, -1]
        text = model.generate(**ids, max_new_tokens=24, do_sample=False)[0]
    golden = {"prompt": args.prompt, "input_ids": ids["input_ids"][0].tolist(), "greedy": text.tolist(), "text": tokenizer.decode(text),
              "last_logits": [round(x, 6) for x in logits.tolist()]}
    export(model, args)
    for path in glob.glob(os.path.join(args.checkpoint, "*token*")) + [os.path.join(args.checkpoint, "config.json")]:
        shutil.copy(path, args.out)
    with open(os.path.join(args.out, "golden.json"), "w") as f:
        json.dump(golden, f)
    print(golden["text"])


if __name__ == "__main__":
    main()
