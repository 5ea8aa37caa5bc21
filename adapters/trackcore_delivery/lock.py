"""The delivery lock: of all processes that share a state file only one delivers, and the next takes over when it ends.

A lock on a file beside the state, which the system releases however its holder ends.  The file names the holder.

The lock belongs to the open file, which a fork shares.  A child closes the file, so that the lock does not outlive its
holder.  It does not unlock it, which would take the lock from the parent.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import attrs
from trackcore_forks import delay_forks, renew_in_forks


@attrs.define(eq=False)
class DeliveryLock:
    """The lock on `path`; its holder delivers."""

    path: Path
    _descriptor: int | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        renew_in_forks(self)

    def acquire(self, name: str) -> bool:
        """Acquire the lock and record `name` as its holder; False if another process holds it."""
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

    def holder(self) -> str | None:
        """Return the name of the holder, or None."""
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
        """Drop the parent's open file in a child."""
        self.release()

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
