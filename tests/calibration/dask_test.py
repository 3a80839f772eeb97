"""Shards on a local Dask cluster of two workers, one of which is killed while it works, merge to the bytes of one run.

usage: dask_test.py SMELT MODEL        (MODEL: a tiny decoder with a vocabulary of 128)
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "calibration"))
import dask_calibrate
from distributed import Client, LocalCluster

SMELT, MODEL = sys.argv[1], Path(sys.argv[2])


def byte_tokenizer() -> dict:
    """Letters and signs from "!" to "~", space and newline."""
    vocab = {chr(c): c - 33 for c in range(33, 127)} | {"\u0120": 94, "\u010a": 95}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": level,
            "post_processor": None, "decoder": level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocab, "merges": []}}


class DaskTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = Path(tempfile.mkdtemp())
        shutil.copy(MODEL, cls.work / "model.onnx")
        (cls.work / "tokenizer.json").write_text(json.dumps(byte_tokenizer()))
        (cls.work / "text.txt").write_text("".join(f"line {i} of a text that is long enough for shards\n" for i in range(250)))
        # Writes down each start and waits for a worker to be killed; if that is its own, it goes with it.
        (cls.work / "slow.sh").write_text(
            f'#!/bin/sh\nif [ "$1" = calibrate ]; then\n  echo "$@" >>{cls.work}/starts\n'
            f'  while [ ! -e {cls.work}/killed ]; do sleep 0.1; done\n  kill -0 $PPID || exit 1\nfi\nexec {SMELT} "$@"\n')
        (cls.work / "slow.sh").chmod(0o755)
        cls.options = ["--data", str(cls.work / "text.txt"), "--second-moments", "--threads", "1"]
        subprocess.run([SMELT, "calibrate", cls.work / "model.onnx", *cls.options, "-q", "-o", cls.work / "whole.stats"], check=True)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.work)

    def starts(self) -> list[str]:
        path = self.work / "starts"
        return path.read_text().splitlines() if path.exists() else []

    def kill_one(self, client):
        while len(self.starts()) < 2:
            time.sleep(0.05)
        victim = sorted(client.run(os.getpid).values())[0]
        os.kill(victim, signal.SIGKILL)
        time.sleep(1)  # for its nanny to see it
        (self.work / "killed").touch()

    def test_a_killed_worker_costs_nothing_but_time(self):
        output = self.work / "merged.stats"
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
            killer = threading.Thread(target=self.kill_one, args=(client,))
            killer.start()
            dask_calibrate.calibrate(client, str(self.work / "slow.sh"), str(self.work / "model.onnx"), str(output), 4, self.options)
            killer.join()
        self.assertEqual(output.read_bytes(), (self.work / "whole.stats").read_bytes())
        shards = [words.split("--shard ")[1].split()[0] for words in self.starts()]
        self.assertEqual(set(shards), {"1/4", "2/4", "3/4", "4/4"})
        self.assertGreater(len(shards), 4, "no shard ran twice, so that no worker was lost at work")
        self.assertFalse(Path(f"{output}.shards").exists())

    def test_a_shard_that_fails_says_why(self):
        with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
            with self.assertRaisesRegex(RuntimeError, "no calibration data"):
                dask_calibrate.calibrate(client, SMELT, str(self.work / "model.onnx"), str(self.work / "none.stats"), 2,
                                         ["--data", "/nowhere/at/all"], retries=1)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
