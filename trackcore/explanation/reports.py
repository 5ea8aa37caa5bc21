"""The report types returned by the explain functions, with the JSON that the command line and the debugger show."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import attrs

from trackcore.clock_skew import TimeRule
from trackcore.credentials import mask_write_key
from trackcore.explanation.catalog import QUARANTINE
from trackcore.explanation.entries import CatalogEntry
from trackcore.typing import JSONObject, WriteKey


@attrs.frozen(kw_only=True)
class ExplainedWarning:
    """A warning with its catalog entry; `entry` is None for a code of another version."""

    code: str
    detail: str
    path: str
    entry: CatalogEntry | None

    def as_json(self) -> JSONObject:
        """Return it as a JSON object."""
        about = {} if self.entry is None else self.entry.as_json()
        return {"code": self.code, "message": self.detail, "path": self.path, **about}


@attrs.frozen(kw_only=True)
class TimeExplanation:
    """How a message got its `timestamp`.  Times are wire texts; `clock_skew` is how far the client is ahead."""

    rule: TimeRule
    sentence: str
    received_at: str | None
    sent_at: str | None
    original_timestamp: str | None
    timestamp: str | None
    clock_skew: timedelta | None

    def as_json(self) -> JSONObject:
        """Return it as a JSON object; the skew is in seconds."""
        return {
            "rule": self.rule,
            "sentence": self.sentence,
            "receivedAt": self.received_at,
            "sentAt": self.sent_at,
            "originalTimestamp": self.original_timestamp,
            "clockSkewSeconds": None if self.clock_skew is None else self.clock_skew.total_seconds(),
            "timestamp": self.timestamp,
        }


@attrs.frozen(kw_only=True)
class DestinationExplanation:
    """Whether a destination gets the message; `key` is the wire path that decided, None if there is none."""

    destination: str
    chosen: bool
    because: str
    sentence: str
    key: str | None = None
    options: JSONObject | None = None

    def as_json(self) -> JSONObject:
        """Return it as a JSON object."""
        return {name: value for name, value in attrs.asdict(self).items() if value is not None}


@attrs.frozen(kw_only=True)
class MessageExplanation:
    """Everything that is known of a message that was accepted, or would be.

    `found_by` is how the source was found (`trackcore.KeyLocation`), None if that was not kept.  `ids` maps the ids by
    wire name, `coerced` names those that came as numbers.  `inherited` has the wire paths of the subtrees that come
    only from the batch.  `duplicate_of` is the sequence number of the stored message with the same id, for one that was
    not stored again.  `retry_count` is how often its client had tried before, as it said.
    """

    source: str
    source_because: str
    call: str
    ids: Mapping[str, str]
    coerced: tuple[str, ...]
    time: TimeExplanation
    inherited: tuple[str, ...]
    warnings: tuple[ExplainedWarning, ...]
    destinations: tuple[DestinationExplanation, ...]
    found_by: str | None = None
    duplicate_of: int | None = None
    retry_count: int = 0

    def as_json(self) -> JSONObject:
        """Return it as a JSON object."""
        return {
            "outcome": "accepted" if self.duplicate_of is None else "duplicate",
            "source": {"name": self.source, "because": self.source_because, "foundBy": self.found_by},
            "type": self.call,
            "ids": dict(self.ids),
            "coerced": list(self.coerced),
            "time": self.time.as_json(),
            "inherited": list(self.inherited),
            "warnings": [warning.as_json() for warning in self.warnings],
            "destinations": [destination.as_json() for destination in self.destinations],
            "duplicateOf": self.duplicate_of,
            "retryCount": self.retry_count,
        }


@attrs.frozen(kw_only=True)
class RejectionExplanation:
    """Everything that is known of a rejected message, or of a refused request.

    `found` is the value at `path`, as JSON text; `limit` and `actual` are in `unit`.  `excerpt` is the text around the
    byte `position` at which a body stopped being JSON, in two halves.
    """

    source: str | None
    code: str
    detail: str
    path: str
    entry: CatalogEntry | None
    allowed: str
    found: str | None = None
    limit: int | None = None
    actual: int | None = None
    unit: str | None = None
    position: int | None = None
    excerpt: tuple[str, str] | None = None

    def as_json(self) -> JSONObject:
        """Return it as a JSON object."""
        known: JSONObject = {
            "outcome": "rejected",
            "source": None if self.source is None else {"name": self.source},
            "code": self.code,
            "message": self.detail,
            "path": self.path,
            "found": self.found,
            "allowed": self.allowed,
            "limit": self.limit,
            "actual": self.actual,
            "unit": self.unit,
            "position": self.position,
            "excerpt": None if self.excerpt is None else list(self.excerpt),
        }
        about = {} if self.entry is None else self.entry.as_json()
        return {**about, **{name: value for name, value in known.items() if value is not None}}


@attrs.frozen(kw_only=True)
class QuarantineExplanation:
    """Why a request is in quarantine, and whether its write key belongs to a source now.

    `hint` names the field that was probably meant to be `writeKey`; it is empty if there is none.
    """

    write_key: WriteKey | None = attrs.field(repr=False)
    source_now: str | None
    hint: str = ""
    entry: CatalogEntry = QUARANTINE

    def as_json(self, *, shows_key: bool = False) -> JSONObject:
        """Return it as a JSON object; the write key is masked, unless `shows_key`."""
        key = self.write_key if self.write_key is None or shows_key else mask_write_key(self.write_key)
        message = f"No source has the write key {key!r}."
        if self.source_now is not None:
            message = f"The write key now belongs to {self.source_now!r}: the request can be reprocessed."
        elif self.write_key is None:
            message = f"The request came without a write key{self.hint or '.'}"
        return {
            "outcome": "quarantined",
            "writeKey": key,
            "sourceNow": self.source_now,
            "message": message,
            **self.entry.as_json(),
        }
