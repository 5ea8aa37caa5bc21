"""Delivery as a process: it becomes the owner, or waits until it can, delivers, and stops when it is told to.

`trackcore deliver` runs it in its own process; `trackcore serve` starts this module as a process beside its workers
(see `delivery_process`), hands it the configuration over standard input, and the end of that input ends it too.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from trackcore_delivery import Delivery, MissingSecret, Ownership, State, Surroundings
from trackcore_sqlite import SqliteLog

from trackcore_server.config import Configuration, ConfigurationMistake
from trackcore_server.log_feed import LogFeed, make_feed

GRACEFUL_SECONDS = 10
"""How long batches in flight may take to be settled once delivery is told to stop."""

_LOOK_SECONDS = 1.0
"""How often one that stands by looks whether the owner is gone."""

_NICENESS = 5
"""Beside a server that has not enough processor for both, receiving comes first: what waits is safe in the log."""

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_log = logging.getLogger("trackcore.delivery")


def open_state(configuration: Configuration) -> State:
    """Open the configured state of delivery, making it beside a log that is there.

    Raises:
        UnusableLog: there is no log.
        UnusableState: it cannot be used.
    """
    SqliteLog(configuration.log_path).last_seq()
    return State(configuration.delivery_path, dead_letter_bytes=configuration.delivery.dead_letter_bytes)


def ownership(configuration: Configuration) -> Ownership:
    """Give the right to deliver on the configured data, not yet taken."""
    return Ownership(configuration.delivery_path.with_suffix(".lock"))


def log_feed(configuration: Configuration) -> LogFeed:
    """Give the configured log as a feed."""
    return make_feed(SqliteLog(configuration.log_path), configuration.sources, configuration.destinations)


def check_destinations(
    configuration: Configuration, file: Path | None = None, environ: Mapping[str, str] = os.environ
) -> None:
    """Check what only shows when a destination is opened, such as secrets.  Raises `ConfigurationMistake`."""
    if not configuration.delivered:
        return
    surroundings = _surroundings(configuration, environ)
    for index, destination in enumerate(configuration.destinations):
        if destination not in configuration.delivered:
            continue
        for name, secret in destination.secrets():
            try:
                secret.reveal(environ)
            except MissingSecret as error:
                path = f"destinations[{index}].{name}"
                raise ConfigurationMistake(file=file, path=path, detail=str(error)) from error
        try:
            destination.make_sender(surroundings).close()
        except (OSError, ValueError) as error:
            raise ConfigurationMistake(file=file, path=f"destinations[{index}]", detail=str(error)) from error


class DeliveryRun:
    """One process's delivery, from waiting for its turn to its end."""

    def __init__(self, configuration: Configuration, name: str) -> None:
        self._configuration = configuration
        self._name = name
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Tell it to stop; may be called from a signal handler or another thread."""
        self._stopping.set()

    def run(self) -> None:
        """Deliver until told to stop."""
        right = ownership(self._configuration)
        if not self._own(right):
            return
        state = State(
            self._configuration.delivery_path, dead_letter_bytes=self._configuration.delivery.dead_letter_bytes
        )
        delivery = Delivery(
            feed=log_feed(self._configuration),
            state=state,
            destinations=self._configuration.delivered,
            surroundings=_surroundings(self._configuration, os.environ),
        )
        delivery.start()
        self._stopping.wait()
        if delivery.stop(GRACEFUL_SECONDS):
            state.close()
        else:
            _log.warning("stopped in the midst of a batch; it will be sent again")
        right.give_back()

    def _own(self, right: Ownership) -> bool:
        told = False
        while not right.take(self._name):
            if not told:
                _log.warning("%s delivers already; standing by until it ends", right.owner() or "another process")
                told = True
            if self._stopping.wait(_LOOK_SECONDS):
                return False
        if told:
            _log.warning("the other one is gone; delivering now")
        return True


def run_until_signal(run: DeliveryRun) -> None:
    """Run until SIGTERM or SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: run.stop())
    run.run()


def _surroundings(configuration: Configuration, environ: Mapping[str, str]) -> Surroundings:
    folder = configuration.log_path.parent
    return Surroundings(clock=lambda: datetime.now(UTC), environ=environ, folder=Path(folder))


def _wait_for_end(stop: Callable[[], None]) -> None:
    """Stop when standard input ends, which is when the server that holds its other end is no more."""
    while os.read(sys.stdin.fileno(), 1_000):
        pass
    stop()


def main() -> None:
    """Deliver for a server: the configuration comes over standard input."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=LOG_FORMAT)
    os.nice(_NICENESS)
    configuration = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    run = DeliveryRun(configuration, "trackcore serve")
    threading.Thread(target=_wait_for_end, args=(run.stop,), daemon=True).start()
    run_until_signal(run)


if __name__ == "__main__":
    main()
