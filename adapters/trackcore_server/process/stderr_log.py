"""The log on standard error: one line per record, whatever text it contains.

Text from a destination or a client may contain line breaks and control characters: they are shown as escapes, so that
no text can look like another record or act on a terminal.  The text of an exception may quote a setting, so only its
type and the places in the code are shown, whichever library logs it or lets it end a thread.
"""

from __future__ import annotations

import copy
import logging
import sys
import threading
from types import TracebackType
from typing import Any, TypeAlias

from gunicorn.glogging import Logger

from trackcore.text import describe_unexpected, visible

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_Raised: TypeAlias = "tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]"

log = logging.getLogger("trackcore.server")


class VisibleFormatter(logging.Formatter):
    """Formats records so that nothing in them acts on a terminal, and no exception is quoted."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, ignoring the traceback text that another formatter may have cached on it."""
        record = copy.copy(record)
        record.exc_text = None
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in logging
        """Format the line of a record."""
        record.message = visible(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: _Raised) -> str:  # noqa: N802 - the name in logging
        """Format the exception of a record."""
        return "" if ei[1] is None else f"  {describe_unexpected(ei[1])}"


class GunicornLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """The log of gunicorn itself, with our formatter."""

    def setup(self, cfg: Any) -> None:
        """Set up the handlers; called again after each reload of the configuration."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(VisibleFormatter(self.error_fmt, self.datefmt))


def log_to_stderr() -> None:
    """Write log records to standard error, and also exceptions that end a thread or the process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(VisibleFormatter(LOG_FORMAT))
    logging.basicConfig(handlers=[handler], level=logging.INFO)
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
