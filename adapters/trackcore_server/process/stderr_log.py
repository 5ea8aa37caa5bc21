"""The log on standard error: ours, that of gunicorn, and the exceptions that end a thread or the process."""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType
from typing import Any

from gunicorn.glogging import Logger

from trackcore.text import describe_unexpected
from trackcore_server.process.log_lines import FORMATTERS

log = logging.getLogger("trackcore.server")


class GunicornLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """The log of gunicorn itself, written by the handler of this module."""

    def setup(self, cfg: Any) -> None:
        """Set up the handlers; called again after each reload of the configuration."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class _StderrHandler(logging.Handler):
    """Writes to standard error, whichever file that is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 - as the handlers of logging do
            self.handleError(record)


_handler = _StderrHandler()


def log_to_stderr(form: str = "text", level: str = "info") -> None:
    """Write log records to standard error, and also exceptions that end a thread or the process.

    A later call changes the form and the level.
    """
    _handler.setFormatter(FORMATTERS[form]())
    root = logging.getLogger()
    root.setLevel(level.upper())
    if _handler not in root.handlers:
        root.addHandler(_handler)
    sys.excepthook = _log_end_of_process
    threading.excepthook = _log_end_of_thread


def _log_end_of_process(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
    else:
        log.critical("the process ends: %s", describe_unexpected(error))


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None:
        name = "a thread" if ended.thread is None else f"the thread {ended.thread.name}"
        log.critical("%s ends: %s", name, describe_unexpected(ended.exc_value))
