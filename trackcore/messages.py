"""The six kinds of message, and the batch, as frozen attrs classes.

These are what people construct, match on and type-check; Python names, not wire names.  Free-form parts (`context`,
`integrations`, `properties`, `traits`) stay plain JSON objects.  What the documentation does not know is kept in
`extra` under its wire name and goes out again.  `None` means that the field is absent on the wire.

Field meanings: https://segment.com/docs/connections/spec/common/
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TypeAlias

import attrs

from trackcore.timestamps import format_timestamp, truncate_to_milliseconds
from trackcore.typing import JSONObject, WriteKey


def _as_text(time: str | datetime | None) -> str | None:
    """Let times be given as aware datetimes too.  Text is kept as it is, so that a client's time stays verbatim."""
    if not isinstance(time, datetime):
        return time
    if time.tzinfo is None:
        raise ValueError(f"{time!r} has no time zone; use datetime.now(UTC) or say which")
    try:
        return format_timestamp(truncate_to_milliseconds(time))
    except OverflowError:
        raise ValueError(f"{time!r} lies outside the years 1 to 9999 in UTC") from None


@attrs.frozen(kw_only=True)
class _Common:
    """The fields that every message has."""

    user_id: str | None = None
    anonymous_id: str | None = None
    message_id: str | None = None
    timestamp: str | None = attrs.field(default=None, converter=_as_text)
    original_timestamp: str | None = attrs.field(default=None, converter=_as_text)
    sent_at: str | None = attrs.field(default=None, converter=_as_text)
    received_at: str | None = attrs.field(default=None, converter=_as_text)
    context: JSONObject | None = None
    integrations: JSONObject | None = None
    extra: JSONObject = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Identify(_Common):
    """Who the user is: https://segment.com/docs/connections/spec/identify/"""

    traits: JSONObject | None = None


@attrs.frozen(kw_only=True)
class Track(_Common):
    """What the user did: https://segment.com/docs/connections/spec/track/"""

    event: str
    properties: JSONObject | None = None


@attrs.frozen(kw_only=True)
class Page(_Common):
    """Which web page was seen: https://segment.com/docs/connections/spec/page/"""

    name: str | None = None
    category: str | None = None
    properties: JSONObject | None = None


@attrs.frozen(kw_only=True)
class Screen(_Common):
    """Which screen of an app was seen: https://segment.com/docs/connections/spec/screen/"""

    name: str | None = None
    category: str | None = None
    properties: JSONObject | None = None


@attrs.frozen(kw_only=True)
class Group(_Common):
    """Which company or account the user belongs to: https://segment.com/docs/connections/spec/group/"""

    group_id: str
    traits: JSONObject | None = None


@attrs.frozen(kw_only=True)
class Alias(_Common):
    """Which earlier identity the user had: https://segment.com/docs/connections/spec/alias/"""

    previous_id: str


Message: TypeAlias = Identify | Track | Page | Screen | Group | Alias


def _as_messages(messages: Iterable[Message]) -> tuple[Message, ...]:
    return tuple(messages)


@attrs.frozen(kw_only=True)
class Batch:
    """Many messages sent as one request, with what they share.

    `context` and `integrations` lie under those of each message (`trackcore.merge_batch`); `sent_at` is the time of
    sending of each message that does not have its own.
    """

    messages: tuple[Message, ...] = attrs.field(converter=_as_messages)
    context: JSONObject | None = None
    integrations: JSONObject | None = None
    sent_at: str | None = attrs.field(default=None, converter=_as_text)
    write_key: WriteKey | None = None
