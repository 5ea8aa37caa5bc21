"""Other servers on the same log: they are allowed, and worth a warning.

SQLite lets several processes write one log, in turns, so nothing is lost.  But a second server is mostly a mistake: it
has its own port and its own sources, only one of both delivers, and each follows its own `keep`.
"""

from __future__ import annotations

import logging
from pathlib import Path

import attrs
from trackcore_delivery import DeliveryLock

from trackcore_server.config.configuration import Configuration

log = logging.getLogger("trackcore.server")


@attrs.define(eq=False)
class ServerLock:
    """A lock beside the log, by which the servers on it notice each other.  The system releases it with the process."""

    _path: Path | None = attrs.field(init=False, default=None)
    _lock: DeliveryLock | None = attrs.field(init=False, default=None)

    def hold(self, configuration: Configuration) -> None:
        """Hold the lock of the configured log, instead of the one held before; warn if another server holds it."""
        path = next((path.with_suffix(".lock") for path in configuration.log.paths), None)
        if path == self._path:
            return
        if self._lock is not None:
            self._lock.release()
        self._path, self._lock = path, None if path is None else DeliveryLock(path)
        try:
            if self._lock is not None and not self._lock.acquire(f"trackcore serve on {configuration.server.bind}"):
                log.warning(
                    "Another server writes this log too: %s; both store in it, and only one of them delivers",
                    self._lock.holder() or "it has just ended",
                )
        except OSError as error:  # a full disk does not prevent the start
            log.warning("cannot look for other servers on this log: %s", error.strerror)
