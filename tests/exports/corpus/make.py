"""Makes the corpus: every model of architectures.py by every exporter asked for, with goldens, one case after another.

  python make.py --exporter optimum [--only llama_gqa,qwen2] [--kind decoder|encoder] [--root ~/.cache/smelt/exports]

Run it with the environment that has the exporter (table.EXPORTERS names it). Existing cases are kept; what fails goes
to ROOT/failures.txt with its reason, and the run goes on.
"""
import argparse
import fcntl
import gc
import glob
import logging
import os
import shutil
import time
import traceback
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false")
warnings.filterwarnings("ignore")

import torch

import architectures
import case_file
import goldens
import table


def fail(root, case, reason):
    """One line a case: a later attempt replaces the earlier one's."""
    path = os.path.join(root, "failures.txt")
    lock = open(path + ".lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    lines = [l for l in open(path).read().splitlines() if not l.startswith(case + "\t")] if os.path.exists(path) else []
    if reason:
        lines.append(f"{case}\t{reason}")
    with open(path, "w") as f:
        f.write("".join(l + "\n" for l in sorted(lines)))
    lock.close()


def reason_of(error):
    """The innermost cause, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"


def make(root, name, tag):
    export, options, _ = table.EXPORTERS[tag]
    final = os.path.join(root, "cases", name, tag)
    folder = os.path.join(root, "making", f"{name}.{tag}.{os.getpid()}")
    os.makedirs(folder)
    try:
        text = export(root, name, folder, **options)
        text, extra = text if isinstance(text, tuple) else (text, {})
        reference = extra.pop("reference", None) or goldens.Reference(root, name)
        case = case_file.write(folder, reference, {"case": (name, tag), "text": text}, **extra)
        os.makedirs(os.path.dirname(final), exist_ok=True)
        os.rename(folder, final)
        return case
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for twin in glob.glob(folder + ".twin*"):
            os.remove(twin)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exporter", required=True, help="comma list of tags of table.EXPORTERS")
    parser.add_argument("--only", default="", help="comma list of models")
    parser.add_argument("--kind", choices=architectures.KINDS)
    parser.add_argument("--root", default=os.path.expanduser("~/.cache/smelt/exports"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    for part in ("checkpoints", "making", "cases"):
        os.makedirs(os.path.join(args.root, part), exist_ok=True)
    models = [n for k in architectures.KINDS[:2] if args.kind in (None, k) for n in architectures.names(k)]
    for tag in args.exporter.split(","):
        wanted = args.only.split(",") if args.only else table.ONLY.get(tag, models)
        for name in wanted:
            case = f"{name}/{tag}"
            if os.path.exists(os.path.join(args.root, "cases", name, tag)):
                continue
            start = time.time()
            try:
                made = make(args.root, name, tag)
                fail(args.root, case, None)
                print(f"ok {case} {made['golden']} {made['max_error_vs_torch']:.2g} ({time.time() - start:.0f} s)", flush=True)
            except Exception as error:
                fail(args.root, case, reason_of(error))
                print(f"failed {case} {reason_of(error)} ({time.time() - start:.0f} s)", flush=True)
                if os.environ.get("CORPUS_TRACE"):
                    traceback.print_exc()
            gc.collect()


if __name__ == "__main__":
    main()
