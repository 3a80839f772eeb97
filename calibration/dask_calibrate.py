"""Calibrates a model on the workers of a Dask cluster: runs 'smelt calibrate --shard' for every part of the data, repeats parts
whose worker was lost, and adds them with 'smelt merge' to the bytes that one run would give.

usage: dask_calibrate.py MODEL -o FILE [--scheduler ADDRESS | --workers N] [--shards N] [--smelt PROGRAM] [-- OPTIONS OF CALIBRATE]

Needs the package dask with distributed (pip install "dask[distributed]"). All workers must see the model, the data and the folder of
FILE under the same paths and run the same smelt. Shards lie in FILE.shards until they are merged, so that a run that was stopped goes
on where it was. Workers must have the same kind of CPU: products in bfloat16 round differently from those in float.
"""
import argparse
import shutil
import subprocess
import sys
from pathlib import Path


def run_shard(command: list[str], path: str) -> str:
    """Runs on a worker. smelt writes beside and renames: a file under its name is whole."""
    if not Path(path).exists():
        done = subprocess.run([*command, "-o", path], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"exit code {done.returncode}: {' '.join(command)}\n{done.stderr.strip()}")
    return path


def prepare_folder(folder: Path, key: str):
    """Shards of other data, another model or another cut are of no use."""
    if folder.exists() and (not (folder / "key").exists() or (folder / "key").read_text() != key):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "key").write_text(key)


def calibrate(client, smelt: str, model: str, output: str, shards: int, options: list[str], retries: int = 3):
    """Writes `output`. `options` are those of 'smelt calibrate' but --shard and --output."""
    from distributed import as_completed

    paths = {option: Path(option) for option in [model, *options] if Path(option).exists()}
    stamps = [f"{path.resolve()} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in paths.values()]
    folder = Path(f"{output}.shards").resolve()
    prepare_folder(folder, "\n".join([*stamps, *options, f"{shards} shards"]))
    base = [smelt, "calibrate", str(Path(model).resolve()), "--quiet"]
    base += [str(paths[option].resolve()) if option in paths else option for option in options]
    # Dask gives the shards of a lost worker to the others; retries are for those that failed themselves.
    futures = [client.submit(run_shard, [*base, "--shard", f"{i}/{shards}"], str(folder / f"{i}.stats"), pure=False, retries=retries,
                             key=f"shard-{i}-of-{shards}-{folder}") for i in range(1, shards + 1)]
    for count, future in enumerate(as_completed(futures), 1):
        future.result()
        print(f"shard {count} of {shards} done", file=sys.stderr)
    done = subprocess.run([smelt, "merge", *[f.result() for f in futures], "-o", output], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"smelt merge: {done.stderr.strip()}")
    shutil.rmtree(folder)


def main():
    words, rest = sys.argv[1:], []
    if "--" in words:
        words, rest = words[:words.index("--")], words[words.index("--") + 1:]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="ONNX file")
    parser.add_argument("-o", "--output", required=True, help="statistics to write")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--scheduler", help="address of a running scheduler")
    where.add_argument("--workers", type=int, default=2, help="processes of a cluster on this machine (default 2)")
    parser.add_argument("--shards", type=int, help="parts of the data (default: two for each worker, so that a lost one costs little)")
    parser.add_argument("--smelt", default="smelt", help="the program")
    given = parser.parse_args(words)
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        sys.exit('dask_calibrate.py needs Dask: pip install "dask[distributed]"')
    cluster = None if given.scheduler else LocalCluster(n_workers=given.workers, threads_per_worker=1, dashboard_address=None)
    with Client(given.scheduler or cluster) as client:
        workers = len(client.scheduler_info()["workers"])
        calibrate(client, given.smelt, given.model, given.output, given.shards or max(1, 2 * workers), rest)
    if cluster:
        cluster.close()


if __name__ == "__main__":
    main()
