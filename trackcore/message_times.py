"""The four times of a message: parsed as the client wrote them, corrected, and written back in the wire's form.

`MessageTimes` is for requests, `HistoricalTimes` for archives.  The rule of correction is explained in `clock_skew`; it
is applied here without making an object for each message, and a test checks that the two agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar

import attrs

from trackcore.errors import InvalidMessage, MessageWarning, Reason, WarningCode
from trackcore.text.timetext import has_offset, parse_timestamp, parse_usual
from trackcore.timestamps import format_timestamp, format_timestamps, time_text
from trackcore.typing import JSONObject
from trackcore.wire.fast import MessageStruct
from trackcore.wire.rules import is_near_miss


class MessageTimes:
    """Sets the times of the messages of one request.  `sent_at` is that of the batch.

    `clock_skew` is how far the clock of the client is ahead, by the last `sentAt` that was examined, if it is known.
    """

    def __init__(self, received_at: datetime, sent_at: str | None) -> None:
        self.received_at, self.sent_at = received_at, sent_at
        self._received_text = format_timestamp(received_at)
        self.clock_skew: timedelta | None = None
        self._last_sent: str | None = ""  # of no message: an empty `sentAt` counts as absent

    def set_all(self, messages: Sequence[MessageStruct]) -> list[datetime] | None:
        """Do as `set` does for each message, if all have a `timestamp` of the usual form and no `sentAt`; else nothing.

        Most batches are such, and their times are parsed in one call, and written in one.
        """
        if len(messages) == 1:  # one call for one message saves nothing
            return None
        texts = [message.timestamp or "" for message in messages if message.sent_at is None]
        originals = parse_usual(texts) if len(texts) == len(messages) else None
        if originals is None:
            return None
        self._remember_skew(self.sent_at)
        if self._sent_warning is not None:
            return None
        skew = self.clock_skew
        try:
            times = originals if skew is None else [original - skew for original in originals]
        except OverflowError:
            return None
        sent_at, received_text = self.sent_at, self._received_text
        for message, original_text, text in zip(messages, texts, format_timestamps(times), strict=True):
            message.timestamp = text
            message.original_timestamp = original_text
            message.sent_at = sent_at
            message.received_at = received_text
        return times

    def set(self, message: MessageStruct, _: JSONObject | None, warnings: list[MessageWarning]) -> datetime:
        """Set the four times of a message and return its corrected one."""
        message.received_at = self._received_text
        sent_text = message.sent_at
        if sent_text is None:
            sent_text = message.sent_at = self.sent_at
        if sent_text != self._last_sent:
            self._remember_skew(sent_text)
        text = message.timestamp or message.original_timestamp
        original = None
        if text is not None:
            message.original_timestamp = text
            original = parse_timestamp(text)
            if original is None:
                warnings.append(_unparsable(WarningCode.TIMESTAMP_UNPARSABLE, "timestamp", text))
            elif text[-1] != "Z" and not has_offset(text):
                warnings.append(_without_offset("timestamp", text))
        if self._sent_warning is not None:
            warnings.append(self._sent_warning)
        if original is None:
            message.timestamp = self._received_text
            return self.received_at
        if self.clock_skew is not None:
            try:
                original -= self.clock_skew
            except OverflowError:
                warnings.append(_OUT_OF_RANGE)
        message.timestamp = format_timestamp(original)
        return original

    def _remember_skew(self, sent_text: str | None) -> None:
        """Find the clock skew by a `sentAt`, and the warning about it: most messages of a request share it."""
        sent_at = None if sent_text is None else parse_timestamp(sent_text)
        self._last_sent = sent_text
        self.clock_skew = None if sent_at is None else sent_at - self.received_at
        self._sent_warning: MessageWarning | None = None
        if sent_text is not None and sent_at is None:
            self._sent_warning = _unparsable(WarningCode.SENT_AT_UNPARSABLE, "sentAt", sent_text)
        elif sent_text is not None and sent_text[-1] != "Z" and not has_offset(sent_text):
            self._sent_warning = _without_offset("sentAt", sent_text)


@attrs.frozen
class HistoricalTimes:
    """Sets the times of messages of an archive.

    Their `timestamp` is corrected already; so `sentAt` is kept, and nothing is corrected by it.
    """

    received_at: datetime
    sent_at: str | None
    clock_skew: ClassVar[timedelta | None] = None

    def set_all(self, _: Sequence[MessageStruct]) -> list[datetime] | None:
        """Return None: each message is set by itself."""
        return None

    def set(self, message: MessageStruct, extra: JSONObject | None, warnings: list[MessageWarning]) -> datetime:
        """Set the times of a message and return its own.  Raises `InvalidMessage` where it has none."""
        path, text = _historical_text(message, extra or {})
        if extra and path in extra:  # a near miss, of which a warning states that it was not read
            warnings[:] = [
                warning for warning in warnings if (warning.code, warning.path) != (WarningCode.FIELD_NEAR_MISS, path)
            ]
        timestamp = parse_timestamp(text)
        if timestamp is None:
            detail = f"{text[:40]!r} is not a time, and the time of reception cannot be used instead"
            raise InvalidMessage(reason=Reason.HISTORICAL_TIME_UNPARSABLE, detail=detail, path=path)
        if not has_offset(text):
            warnings.append(_without_offset(path, text))
        if message.original_timestamp is None:
            message.original_timestamp = text
        if message.sent_at is None:
            message.sent_at = self.sent_at
        message.received_at = format_timestamp(self.received_at)
        message.timestamp = format_timestamp(timestamp)
        return timestamp


def _historical_text(message: MessageStruct, extra: JSONObject) -> tuple[str, str]:
    """Find the time of a message of an archive, by its wire name or almost: `received_at` of a warehouse, `timeStamp`.

    Raises `InvalidMessage` where it has none.
    """
    own = (message.timestamp, message.original_timestamp, message.received_at)
    for known, own_text in zip(("timestamp", "originalTimestamp", "receivedAt"), own, strict=True):
        near = {name: time_text(value) for name, value in extra.items() if is_near_miss(name, known)}
        for name, text in {known: own_text, **near}.items():
            if text is not None:
                return name, text
    detail = "an imported message needs a `timestamp`"
    raise InvalidMessage(reason=Reason.HISTORICAL_TIME_MISSING, detail=detail, path="timestamp")


_OUT_OF_RANGE = MessageWarning(
    code=WarningCode.TIMESTAMP_OUT_OF_RANGE, message="the client's own time was kept", path="timestamp"
)


def _unparsable(code: WarningCode, path: str, text: str) -> MessageWarning:
    return MessageWarning(code=code, message=f"{text[:40]!r} is not a time", path=path)


def _without_offset(path: str, text: str) -> MessageWarning:
    message = f"{text[:40]!r} names no offset, so it was taken as UTC"
    return MessageWarning(code=WarningCode.TIMESTAMP_WITHOUT_OFFSET, message=message, path=path)
