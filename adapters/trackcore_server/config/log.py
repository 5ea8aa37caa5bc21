"""The settings of the log as a file: `[log]`; those of a log in Kafka are in `kafka_log`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import attrs
from trackcore_delivery import ByteCount

from trackcore.support import MEBIBYTE
from trackcore_server.config.converter import nearest

LOG_KINDS = ("sqlite", "kafka")


def _check_kind(_: object, __: object, kind: str) -> None:
    if kind not in LOG_KINDS:
        hint = nearest(kind, LOG_KINDS) or f"; there are {', '.join(LOG_KINDS)}"
        raise ValueError(f"there is no such kind of log{hint}")


def _check_keep(_: object, __: object, keep: timedelta | None) -> None:
    if keep is not None and not keep:
        raise ValueError("expected an age of at least a second: nothing would be kept")


def check_file_name(_: object, __: object, path: Path | None) -> None:
    """Check that a path names a file (an attrs validator)."""
    if path is not None and not path.name:
        raise ValueError(f"expected the name of a file, found {str(path)!r}")


@attrs.frozen(kw_only=True)
class LogSettings:
    """Where the log is, how long it keeps its records, and how many bytes of rejected and quarantined ones.

    Without `keep` messages are kept forever.
    """

    kind: str = attrs.field(default="sqlite", validator=_check_kind)
    path: Path = attrs.field(default=Path("trackcore.db"), validator=check_file_name)
    keep: timedelta | None = attrs.field(default=None, validator=_check_keep)
    rejected_bytes: ByteCount = ByteCount(256 * MEBIBYTE)
    quarantine_bytes: ByteCount = ByteCount(64 * MEBIBYTE)

    has_debugger: ClassVar[bool] = True
    """Whether the debugger can read such a log."""

    @property
    def location(self) -> str:
        """Where the log is, for people."""
        return str(self.path)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files on this machine that have the log."""
        return (self.path,)

    @property
    def delivery_path(self) -> Path:
        """The file for the state of delivery, unless another one is configured."""
        return self.path.with_name(f"{self.path.stem}-delivery.db")

    def rebased(self, base: Path) -> LogSettings:
        """Return the settings with paths that are absolute, or relative to a folder."""
        return attrs.evolve(self, path=base / self.path)

    def in_file(self, path: Path) -> LogSettings:
        """Return the settings for another log, in this file."""
        return attrs.evolve(self, path=path)

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yield the path and the detail of each fault that no single setting shows."""
        yield from ()
