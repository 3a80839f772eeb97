#!/usr/bin/env python3
"""Renders chat templates with smelt and with jinja2, set up as Hugging Face transformers does: identical or it fails.

Usage: template_test.py PROBE. Every template of templates/ with every conversation, then the snippets of snippets.py.
"""
import json
import sys
from datetime import datetime
from pathlib import Path

import jinja2
from conversations import conversations
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from probe import Probe
from snippets import SNIPPETS, VARIABLES


class Generation(Extension):
    """`{% generation %}` as transformers has it: a block with a scope of its own."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
    return env


def render(env, source, variables):
    """The text, or an Exception."""
    try:
        return env.from_string(source).render(**variables)
    except Exception as error:  # whatever Python raises, smelt must fail, too
        return error


def main():
    probe = Probe(sys.argv[1])
    env = environment()
    failures, compared, refused = [], 0, 0
    chats = conversations()
    cases = [(path.name, path.read_text(encoding="utf-8"), chats) for path in sorted((Path(__file__).parent / "templates").glob("*.jinja"))]
    cases += [(f"snippet {snippet!r}", snippet, [VARIABLES]) for snippet in SNIPPETS]
    for name, source, contexts in cases:
        rendered = 0
        for number, variables in enumerate(contexts):
            theirs = render(env, source, variables)
            ours = probe.ask(op="render", template=source, variables=variables)
            compared += 1
            refused += isinstance(theirs, Exception)
            rendered += not isinstance(theirs, Exception)
            if isinstance(theirs, Exception) and "error" in ours:
                continue
            if ours.get("text") != theirs:
                text = ours.get("text", ours.get("error"))
                at = next((i for i, (a, b) in enumerate(zip(str(text), str(theirs))) if a != b), 0)
                cut = slice(max(0, at - 30), at + 120)
                failures.append(f"{name} #{number} at {at}:\n    smelt  {str(text)[cut]!r}\n    jinja2 {str(theirs)[cut]!r}")
        if rendered == 0 and not name.startswith("snippet"):
            failures.append(f"{name} renders no conversation at all")
    print(f"{compared} renderings of {len(cases)} templates and snippets, {refused} refused by both, {len(failures)} differences")
    for failure in failures[:20]:
        print("  " + failure)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
