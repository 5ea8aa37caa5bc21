"""The log on standard error: one line a record, whatever text from outside is in it.

What a destination answered, or a client sent, may have line breaks and control characters: they are shown as escapes,
and the lines of a traceback are indented, so that no text can look like a record of its own or act on a terminal.
"""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import TypeAlias

from trackcore_delivery import visible

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_Raised: TypeAlias = "tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]"


class VisibleFormatter(logging.Formatter):
    """Formats records so that nothing in them acts on a terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in logging
        """Format the line of a record."""
        record.message = visible(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: _Raised) -> str:  # noqa: N802 - the name in logging
        """Format the traceback of a record."""
        return "\n".join(f"  {visible(line)}" for line in super().formatException(ei).split("\n"))


def log_to_stderr() -> None:
    """Write what is logged from now on to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(VisibleFormatter(LOG_FORMAT))
    logging.basicConfig(handlers=[handler], level=logging.INFO)
