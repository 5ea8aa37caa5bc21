"""Forgetting persons in archives: a file that has a message of theirs is rewritten, under its name.

The new file is complete on disk before it replaces the old one, so a crash leaves one of both.  Other lines stay as
they are, byte for byte.  Files that a crash left half written (`.part`) are deleted first: all that they have is in a
file beside them.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from trackcore_delivery.durable_folders import sync_folder
from trackcore_delivery.erasures import ErasureRequest

_GZIP_LEVEL = 6
_PART = ".part"


def forget_in_files(folder: Path, paths: Iterable[Path], request: ErasureRequest) -> None:
    """Forget persons in files of a folder.  Raises `OSError`."""
    whole = []
    for path in paths:
        if path.name.endswith(_PART):
            path.unlink()
        else:
            whole.append(path)
    for path in whole:
        if _has_their_lines(path, request):
            _rewrite(path, request)
    sync_folder(folder)


def _has_their_lines(path: Path, request: ErasureRequest) -> bool:
    with _opened(path) as lines:
        return any(_kept(line, request) is not line for line in lines)


def _rewrite(path: Path, request: ErasureRequest) -> None:
    part = path.with_name(path.name + _PART)
    part.unlink(missing_ok=True)
    with (
        _opened(path) as lines,
        os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as stream,
        _packed(path, stream) as out,
    ):
        for line in lines:
            if (kept := _kept(line, request)) is not None:
                out.write(kept)
        if out is not stream:
            out.close()
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def _kept(line: bytes, request: ErasureRequest) -> bytes | None:
    """Return what is kept of a line, None if nothing is."""
    text = line.rstrip(b"\n")
    try:
        kept = request.apply(text)
    except msgspec.MsgspecError:  # the end of a line that a crash cut off
        return None
    if kept is text:
        return line
    return None if kept is None else kept + line[len(text) :]


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as stream:
        yield stream  # type: ignore[misc]


@contextmanager
def _packed(path: Path, stream: IO[bytes]) -> Iterator[IO[bytes]]:
    if not path.name.endswith(".gz"):
        yield stream
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=_GZIP_LEVEL, mtime=0) as packed:
        yield packed  # type: ignore[misc]
