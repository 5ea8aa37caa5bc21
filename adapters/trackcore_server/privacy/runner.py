"""The thread that runs the jobs of a server: those that were requested over HTTP, and those that were interrupted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from trackcore import TrackcoreError
from trackcore_server.config.configuration import Configuration
from trackcore_server.privacy.jobs import Jobs

_LOOK_SECONDS = 1.0
_RETRY_LOOKS = 60
"""After so many looks a job that could not end is tried again."""

log = logging.getLogger("trackcore.privacy")


def start_jobs(configuration: Configuration) -> Callable[[], None]:
    """Start the thread; return the function that stops it.  Of several processes one runs a job at a time."""
    stopped = threading.Event()
    jobs = Jobs(configuration)
    waits: dict[str, int] = {}

    def run_once() -> None:
        for job in jobs.file.jobs(unfinished=True):
            if waits.get(job.id, 0) > 0:
                waits[job.id] -= 1
            elif not stopped.is_set() and not jobs.run(job.id, is_stopping=stopped.is_set):
                waits[job.id] = _RETRY_LOOKS

    def run() -> None:
        while not stopped.wait(_LOOK_SECONDS):
            try:
                run_once()
            except (TrackcoreError, OSError) as error:
                log.warning("a request about persons waits: %s", error)

    thread = threading.Thread(target=run, name="trackcore-privacy", daemon=True)
    thread.start()

    def stop() -> None:
        stopped.set()
        thread.join()

    return stop
