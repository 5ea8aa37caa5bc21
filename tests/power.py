"""A disk that loses its power: of what was written to it, only what was synced is certain to be there afterwards.

A library in C, preloaded into the process under test, copies each file to the platter whenever it is synced.  To cut
the power is to kill the process, and to go on with what is on the platter.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from random import Random

import pytest

SECTOR_BYTES = 512
_SOURCE = Path(__file__).with_name("fsync_recorder.c")


def compile_recorder(folder: Path) -> Path:
    """Compile the library that is to be preloaded."""
    library = folder / "fsync_recorder.so"
    try:
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, _SOURCE, "-ldl"], check=True)
    except FileNotFoundError:
        pytest.skip("this needs a compiler of C")
    return library


class Disk:
    """A folder as processes see it, and the platter, which has the files as they were synced."""

    def __init__(self, folder: Path, platter: Path, recorder: Path) -> None:
        self._folder = folder
        self._platter = platter
        self.environment = {"LD_PRELOAD": str(recorder), "DISK": str(folder), "PLATTER": str(platter)}
        shutil.copytree(folder, platter)

    def cut_power(self, successor: Path, random: Random | None) -> None:
        """Make a folder with what survived, once the process is killed.

        That is the least possible, or with `random` any part of the sectors that were written and not synced yet.
        """
        successor.mkdir()
        for file in self._platter.glob("[!.]*"):  # a hidden file is a copy that was not finished
            synced = survived = file.read_bytes()
            written = self._folder / file.name
            if random is not None and written.exists():
                survived = _mixed(synced, written.read_bytes(), random)
            (successor / file.name).write_bytes(survived)


def _mixed(synced: bytes, written: bytes, random: Random) -> bytes:
    """Return a file of which any sector may be as it was synced last, or as it was written since then."""
    size = random.choice([len(synced), len(written)])
    synced, written = (text.ljust(size, b"\0") for text in (synced, written))
    starts = range(0, size, SECTOR_BYTES)
    return b"".join(random.choice([synced, written])[start : start + SECTOR_BYTES] for start in starts)[:size]
