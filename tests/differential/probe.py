"""Talks to smelt_tokenizer_probe: one question and one answer per line."""
import json
import subprocess


class Probe:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")

    def ask(self, **question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the probe died (status {self.process.wait()}) on {json.dumps(question)[:2000]}")
        return json.loads(line)
