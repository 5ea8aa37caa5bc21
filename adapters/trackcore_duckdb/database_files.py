"""The files of a database: the one in use, and those of a rebuild beside it."""

from __future__ import annotations

from pathlib import Path


def fresh_file(live: Path) -> Path:
    """Return the file that a rebuild fills."""
    return live.with_name(f"{live.name}.new")


def old_file(live: Path) -> Path:
    """Return the file from before a rebuild."""
    return live.with_name(f"{live.name}.old")


def existing_files(file: Path) -> list[Path]:
    """Return the files that there are, the one in use first.  Raises `OSError`."""
    live = file.resolve()
    end_interrupted_swap(live)
    return [path for path in (live, fresh_file(live), old_file(live)) if path.exists()]


def end_interrupted_swap(live: Path) -> None:
    """Delete the second name of the file in use, if a process was killed before it had put another one in its place."""
    old = old_file(live)
    if old.exists() and live.exists() and old.samefile(live):
        old.unlink()
