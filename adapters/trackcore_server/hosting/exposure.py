"""Files that other users of this machine can read: the log contains user data, the configuration keys."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from trackcore_server.config.configuration import Configuration

_SUFFIXES = ("", "-wal", "-shm")
_LIST, _READ, _ENTER = stat.S_IROTH | stat.S_IWOTH, stat.S_IROTH, stat.S_IXOTH


def find_exposed(configuration: Configuration, file: Path | None) -> Iterator[str]:
    """Yield a sentence for each folder or file of a deployment that users other than the owner and group can read.

    Each ends with the command that removes the permission.  Files below a folder that others cannot enter are left out,
    as are shared folders such as /tmp.
    """
    for path in configuration.log.paths:
        if _is_open(path.parent, _LIST) and _is_ours(path.parent):
            yield f"others can read the data folder {path.parent}; run: chmod 700 {shlex.quote(str(path.parent))}"
    databases = (*configuration.log.paths, configuration.delivery_path)
    files = (path.with_name(path.name + suffix) for path in databases for suffix in _SUFFIXES)
    for one in files if file is None else (file, *files):
        if _is_open(one, _READ):
            yield f"others can read {one}; run: chmod 600 {shlex.quote(str(one))}"


def _is_open(path: Path, rights: int) -> bool:
    try:
        resolved = path.resolve()
        is_reachable = all(parent.stat().st_mode & _ENTER for parent in resolved.parents)
        return is_reachable and bool(resolved.stat().st_mode & rights)
    except OSError:  # it is missing, or this user cannot reach it
        return False


def _is_ours(folder: Path) -> bool:
    found = folder.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX
