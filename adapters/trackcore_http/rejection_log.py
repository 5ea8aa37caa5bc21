"""The log of rejections: the first of each code from each source in a while, so that it is bounded.

A release that sends broken messages, or a wrong write key, shows in the log of the server within a second, and a
client cannot fill that log.  Nothing that a client sent is quoted: the rejected messages are kept beside the log, and
`trackcore rejected` shows them.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

import attrs

from trackcore import Invalid, PendingReceipt
from trackcore_http.responses import UNKNOWN_SOURCE

PERIOD = timedelta(minutes=10)
"""After how long a rejection of the same source and code is logged again."""

log = logging.getLogger("trackcore.http")


@attrs.define
class _Logged:
    at: datetime
    others: int = 0


@attrs.define(eq=False)
class RejectionLog:
    """Logs the rejections of one process.  Sources are those of the configuration, and codes those of the table."""

    _logged: dict[tuple[str | None, str], _Logged] = attrs.field(init=False, factory=dict)

    def note(self, pending: PendingReceipt) -> None:
        """Log the rejections of a request, except for those that were logged a short time ago."""
        source = None if pending.source is None else pending.source.name
        if pending.error is not None:
            self._note(source, "request", *_texts(pending.error), pending.received_at)
        for rejection in pending.rejections:
            self._note(source, "message", *_texts(rejection.error), pending.received_at)
        if pending.quarantined:
            self._note(None, "request", UNKNOWN_SOURCE.code, UNKNOWN_SOURCE.message, pending.received_at)

    def _note(self, source: str | None, what: str, code: str, sentence: str, now: datetime) -> None:
        logged = self._logged.get((source, code))
        if logged is not None and timedelta() <= now - logged.at < PERIOD:
            logged.others += 1
            return
        self._logged[source, code] = _Logged(now)
        whose = "" if source is None else f" of source {source!r}"
        more = f" ({logged.others:,} others since the last line like this)" if logged and logged.others else ""
        log.warning("rejected a %s%s: %s: %s%s", what, whose, code, sentence, more)


def _texts(error: Invalid) -> tuple[str, str]:
    return error.reason, error.reason.sentence
