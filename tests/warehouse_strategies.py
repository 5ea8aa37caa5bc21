"""Hypothesis strategies: stored messages as a warehouse gets them, from usual to hostile ones."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from strategies import CALLS, json_scalars, number_texts

from trackcore import JSONObject

TIMES = ("2026-01-31T12:00:00.276Z", "2026-01-31 12:00:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-01:00")
TEXTS = ("", "true", "42", "4.5", "1e400", "2026-01-31", "\0", "a\ud800b", "'; DROP TABLE users; --", *TIMES)
NAMES = (
    *("total", "Total", "TOTAL ", "user_id", "userId", "id", "event", "name", "uuid_ts", "xmin", "ctid", "ключ", ""),
    *("context", "context_ip", "page", "x" * 300, "x" * 299 + "y", "a.b", 'a"b', "a\0b", "a;b", "2fa", "_", "$set"),
)
EVENTS = ("Order Paid", "order_paid", "Users", "tracks", "Заказ", "", "2FA", "e" * 300, 'a"b', "_discards", "pg_class")


def names() -> SearchStrategy[str]:
    """Return keys of objects: equal slugs, standard names, none, long ones, and any text."""
    return st.sampled_from(NAMES) | st.text(max_size=8)


def scalars() -> SearchStrategy[Any]:
    """Return values that are not objects, with numbers as they are decoded and as they are written."""
    written = number_texts().map(msgspec.Raw) | st.just(msgspec.Raw("1e400"))
    huge = st.just(10**400) | st.just(2**63) | st.just(-(2**63))
    return json_scalars() | st.sampled_from(TEXTS) | written | huge | st.lists(json_scalars() | written, max_size=3)


def objects() -> SearchStrategy[JSONObject]:
    """Return free-form objects, nested or not."""
    return st.dictionaries(
        names(), scalars() | st.dictionaries(names(), scalars() | st.just({}), max_size=3), max_size=6
    )


def messages() -> SearchStrategy[JSONObject]:
    """Return messages as they are stored, with anything in the free-form parts."""
    return st.fixed_dictionaries(
        {"type": st.sampled_from(CALLS), "messageId": st.text(min_size=1, max_size=8)},
        optional={
            "userId": st.text(max_size=8),
            "anonymousId": st.text(max_size=8),
            "event": st.sampled_from(EVENTS) | st.text(max_size=8),
            "name": st.text(max_size=8),
            "groupId": st.text(max_size=8),
            "previousId": st.text(max_size=8),
            "receivedAt": st.sampled_from(TIMES),
            "sentAt": st.sampled_from([*TIMES, "yesterday"]),
            "timestamp": st.sampled_from(TIMES),
            "originalTimestamp": st.sampled_from([*TIMES, "1420070400"]),
            "context": objects(),
            "properties": objects(),
            "traits": objects(),
            "integrations": objects(),
        },
    )


def payload_of(message: JSONObject, *, is_ascii: bool = False) -> bytes:
    """Return a message as it is stored; an unpaired surrogate needs an escape."""
    text = json.dumps(message, ensure_ascii=is_ascii, default=lambda raw: float(bytes(raw)))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return payload_of(message, is_ascii=True)
