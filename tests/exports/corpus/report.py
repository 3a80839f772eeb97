"""Prints the table architecture x exporter of a corpus as Markdown, then every refusal's reason.

  python report.py [ROOT]     (ROOT: ~/.cache/smelt/exports)
"""
import collections
import json
import os
import sys


def main(root):
    made, tags = collections.defaultdict(dict), {}
    cases = os.path.join(root, "cases")
    for model in sorted(os.listdir(cases)):
        for tag in sorted(os.listdir(os.path.join(cases, model))):
            case = json.load(open(os.path.join(cases, model, tag, "case.json")))
            made[model][tag] = "t" if case["golden"] == "torch_float64" else "o"
            tags[tag] = tags.get(tag, 0) + 1
    reasons = []
    if os.path.exists(os.path.join(root, "failures.txt")):
        for line in open(os.path.join(root, "failures.txt")):
            case, reason = line.rstrip("\n").split("\t", 1)
            model, tag = case.split("/")
            if tag not in made[model]:
                made[model][tag] = "x"
                tags.setdefault(tag, 0)
                reasons.append(f"- {case}: {reason[:200]}")
    columns = sorted(tags, key=lambda t: -tags[t])
    print("t: golden from float64 torch, o: from onnxruntime (another meaning than torch's, or integer arithmetic), x: no export\n")
    print("| model | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for model in sorted(made):
        print(f"| {model} | " + " | ".join(made[model].get(t, "") for t in columns) + " |")
    print(f"| cases ({sum(tags.values())}) | " + " | ".join(str(tags[t]) for t in columns) + " |\n")
    print("\n".join(sorted(reasons)))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.expanduser("~/.cache/smelt/exports"))
