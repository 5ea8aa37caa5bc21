"""Retention by configuration: what is older than `log.keep` is deleted while the server runs.

Each worker looks at the log now and then, from a thread of its own.  Two that do so at once do not harm each other:
each deletes what is the oldest by then.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trackcore_sqlite import prune

from trackcore import TrackcoreError

log = logging.getLogger("trackcore.retention")

EVERY = timedelta(minutes=10)


def keep_short(path: Path, keep: timedelta, *, every: timedelta = EVERY) -> Callable[[], None]:
    """Start to delete what was received longer ago than `keep`, again and again; return what stops it."""
    stopped = threading.Event()

    def run() -> None:
        while not stopped.wait(every.total_seconds()):
            _prune_once(path, keep, stopped)

    thread = threading.Thread(target=run, name="trackcore-retention", daemon=True)
    thread.start()

    def stop() -> None:
        stopped.set()
        thread.join()

    return stop


def _prune_once(path: Path, keep: timedelta, stopped: threading.Event) -> None:
    deleted = 0
    try:
        for step in prune(path, datetime.now(UTC) - keep):
            deleted += step.deleted
            if stopped.is_set():
                break
    except (TrackcoreError, OSError) as error:
        log.warning("cannot delete what is older than %s: %s", keep, error)
    if deleted:
        log.info("deleted %d records older than %s", deleted, keep)
