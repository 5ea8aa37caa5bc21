"""The lines of the log: one for each record, with its time in UTC and its level, as text or as JSON.

Text from a destination or a client may contain line breaks and control characters: they are shown as escapes, so that
no text can look like another record or act on a terminal.  The text of an exception may quote a setting, so only its
type and the places in the code are shown, whichever library logs it or lets it end a thread.
"""

from __future__ import annotations

import copy
import json
import logging
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TypeAlias

from trackcore import format_timestamp
from trackcore.text import describe_unexpected, visible

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LEVELS = ("debug", "info", "warning", "error")
"""The levels of the log: a record of a lower one is not written."""

FIELDS = "fields"
"""The attribute of a record with more fields, which follow the message in JSON."""

_Raised: TypeAlias = "tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]"


class VisibleFormatter(logging.Formatter):
    """Formats records so that nothing in them acts on a terminal, and no exception is quoted."""

    def __init__(self) -> None:
        super().__init__(LOG_FORMAT)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - in logging
        """Return the time of a record, in UTC."""
        del datefmt
        return _time_of(record)

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


class JsonFormatter(logging.Formatter):
    """Formats each record as a JSON object on one line.  No exception is quoted."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        line: dict[str, Any] = {
            "time": _time_of(record),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info is not None and record.exc_info[1] is not None:
            line["exception"] = describe_unexpected(record.exc_info[1])
        return json.dumps(line)


def _time_of(record: logging.LogRecord) -> str:
    return format_timestamp(datetime.fromtimestamp(record.created, UTC))


FORMATTERS: dict[str, type[logging.Formatter]] = {"text": VisibleFormatter, "json": JsonFormatter}
"""The forms of the log."""
