"""One owner: of all processes on one state file a single one delivers, and the next takes over when it is gone.

A lock on a file beside the state, which the system lets go of however its holder ends.  The file says who it is.

The lock belongs to the open file, which a fork shares.  A child closes it, so that the lock does not outlive its
holder, and does not unlock it, which would take it from the parent.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import attrs
from trackcore_forks import delay_forks, renew_in_forks


@attrs.define(eq=False)
class DeliveryLock:
    """The right to deliver, of whoever holds the lock on `path`."""

    path: Path
    _descriptor: int | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        renew_in_forks(self)

    def acquire(self, name: str) -> bool:
        """Take it, and say who took it; False when another process has it."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with delay_forks():  # a child must know of each open file
            descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            self._descriptor = descriptor
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{name}, process {os.getpid()}".encode())
        return True

    def owner(self) -> str | None:
        """Tell who has it; None when nobody does."""
        with delay_forks():
            try:
                descriptor = os.open(self.path, os.O_RDONLY)
            except FileNotFoundError:
                return None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return os.read(descriptor, 1_000).decode("utf-8", "replace") or "another process"
            finally:
                os.close(descriptor)
        return None

    def renew_after_fork(self) -> None:
        """Leave what a parent has to the parent."""
        self.release()

    def release(self) -> None:
        """Let another process have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
