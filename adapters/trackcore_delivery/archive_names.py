"""Names of archive files, and which of the files in a folder belong to a destination.

    NAME-2026-01-31-000001.jsonl.gz     closed
    NAME-2026-01-31-000002.jsonl        open

NAME is the name of the destination.  Characters that a file system may reject are replaced by `_`: in ASCII everything
except letters, digits, `.`, `_` and `-`, elsewhere everything unprintable.  A file belongs to a destination if its name
has exactly this form.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Hashable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import NamedTuple

import attrs

MAX_STEM_BYTES = 200
"""A file name may have 255 bytes on every common file system; day, number and suffix need the rest."""

_UNSAFE = re.compile(r"(?:(?![A-Za-z0-9_.-])[\x00-\x7f])+")
_SUFFIX = re.compile(r"-(?P<day>\d{4}-\d\d-\d\d)-(?P<number>\d{6,})\.jsonl(?P<closed>\.gz)?(?:\.part)?", re.ASCII)


class Slot(NamedTuple):
    """The day and the number of a file; slots sort as their file names do."""

    day: date
    number: int


@attrs.frozen
class ArchiveNames:
    """The file names of one destination."""

    stem: str

    def open_name(self, slot: Slot) -> str:
        """Return the name of a file that is being written."""
        return f"{self.stem}-{slot.day.isoformat()}-{slot.number:06d}.jsonl"

    def closed_name(self, slot: Slot) -> str:
        """Return the name of a file that is closed and compressed."""
        return f"{self.open_name(slot)}.gz"

    def slot(self, file_name: str) -> Slot | None:
        """Return the slot of a file, open or closed, or None if the file does not belong to the destination."""
        name = unicodedata.normalize("NFC", file_name)
        match = _SUFFIX.fullmatch(name, len(self.stem)) if name.startswith(self.stem) else None
        try:
            return match and Slot(date.fromisoformat(match["day"]), int(match["number"]))
        except ValueError:
            return None

    def is_open(self, file_name: str) -> bool:
        """Report whether a file belongs to the destination and is not compressed."""
        return file_name.endswith(".jsonl") and self.slot(file_name) is not None


def archive_names(destination: str) -> ArchiveNames:
    """Return the file names of a destination.  Raises `ValueError` if its name is too long for a file."""
    text = "".join(
        character if character.isascii() or character.isprintable() else "_"
        for character in unicodedata.normalize("NFC", destination)
    )
    stem = _UNSAFE.sub("_", text)
    if len(stem.encode()) > MAX_STEM_BYTES:
        raise ValueError(f"the name is too long for a file: at most {MAX_STEM_BYTES} bytes in UTF-8")
    return ArchiveNames(stem)


def place_of(folder: Path, names: ArchiveNames) -> Hashable:
    """Return where files are, so that two places are equal if a file of one could be a file of the other.

    Names are compared without regard to case and Unicode normalization, which some file systems ignore.
    """
    return real_place(folder), _folded(names.stem)


def real_place(folder: Path) -> Hashable:
    """Return where a folder is, so that two places are equal if they are, or would be, the same folder.

    Existing folders are compared by device and inode, with symbolic links resolved.  The part of the path that does not
    exist yet is compared without regard to case and Unicode normalization.

    A folder that cannot be examined now, such as one on a missing disk, counts as not existing.  Its sender will report
    it; the other destinations must not suffer.
    """
    path = Path(os.path.realpath(folder))  # `Path.resolve` raises in a loop of symbolic links
    for existing in (path, *path.parents):
        with suppress(OSError):
            found = existing.stat()
            return found.st_dev, found.st_ino, _folded(str(path.relative_to(existing)))
    return _folded(str(path))


def _folded(text: str) -> str:
    """Return text in the form of Unicode's canonical caseless matching."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
