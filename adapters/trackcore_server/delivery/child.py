"""The process that delivers for a server, to be run by `python -m`.

It reads the configuration from standard input.  The end of that input, which comes with any end of the server, ends it
too.  Ctrl-C does not, since a terminal sends it to all processes: the server stops this one.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
from collections.abc import Callable

from trackcore_server.config.configuration import Configuration
from trackcore_server.delivery.service import DeliveryRun, run_until_signal
from trackcore_server.process.stderr_log import log_to_stderr

_NICENESS = 5
"""If the server has not enough processor for both, receiving comes first: waiting messages are safe in the log."""


def main() -> None:
    """Deliver until it is stopped."""
    os.nice(_NICENESS)
    log_to_stderr()
    try:
        configuration: Configuration = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    except EOFError:  # it ended before it wrote the configuration
        return
    log_to_stderr(configuration.server.log, configuration.server.log_level)
    run = DeliveryRun(configuration, "trackcore serve")
    threading.Thread(target=_wait_for_end, args=(run.stop,), daemon=True).start()
    run_until_signal(run)


def _wait_for_end(stop: Callable[[], None]) -> None:
    while os.read(sys.stdin.fileno(), 1_000):
        pass
    stop()


if __name__ == "__main__":
    main()
