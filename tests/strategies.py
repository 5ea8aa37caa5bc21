"""Hypothesis strategies: messages and requests of clients, from well-behaved to hostile ones.

They know the wire format from its documentation.  Of the code under test they import only the attrs classes and the
check for blank text.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from trackcore import Alias, Batch, Call, Group, Identify, JSONObject, Message, Page, Screen, Track, WriteKey
from trackcore.text.blanks import is_blank

CALLS: tuple[Call, ...] = ("identify", "track", "page", "screen", "group", "alias")

# JSON


def json_scalars() -> SearchStrategy[Any]:
    """Return null, booleans, text, floats and integers, of which some need more than 64 bits.

    Without NaN and infinity, which are not JSON, and without unpaired surrogates, which are replaced by design.
    """
    numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    return st.none() | st.booleans() | numbers | st.text(max_size=12)


def json_values() -> SearchStrategy[Any]:
    """Return any JSON value, of about ten leaves: shape matters here, size does not matter."""
    return st.recursive(
        json_scalars(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=10,
    )


def json_objects() -> SearchStrategy[JSONObject]:
    """Return any JSON object, including the empty one and odd keys (`""`, `$set`, `a.b`)."""
    keys = st.text(max_size=8) | st.sampled_from(["", "$set", "a.b", "__proto__", "writeKey"])
    return st.dictionaries(keys, json_values(), max_size=4)


_SPACES = st.sampled_from(["", "", "", " ", "\n", "\t", " \r\n"])


def number_texts() -> SearchStrategy[str]:
    """Return numbers within the range of a float, in any spelling: `1.10`, `-0`, `1E+05`, and with many digits."""
    return st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)


def object_texts(*, plain: bool = False, unique: bool = False) -> SearchStrategy[str]:
    """Return JSON objects as clients may spell them: numbers, escapes, white space, and names that occur twice.

    With `plain` there are no escapes and no white space outside of strings, with `unique` no name occurs twice.
    """
    characters = st.characters(exclude_characters='"\\', min_codepoint=32, codec="utf-8")
    strings = st.text(characters, max_size=8).map(lambda text: f'"{text}"')
    if not plain:
        escapes = [r"\u00e9", r"\/", r"\n", r"\\", r"\"", r"\ud83d\ude00"]
        strings |= st.sampled_from(escapes).map(lambda text: f'"{text}"') | st.text(max_size=8).map(json.dumps)
    spaces = st.just("") if plain else _SPACES

    def arrays(inner: SearchStrategy[str]) -> SearchStrategy[str]:
        values = st.tuples(spaces, inner, spaces).map("".join)
        return st.lists(values, max_size=4).map(lambda some: f"[{','.join(some)}]")

    def objects(inner: SearchStrategy[str]) -> SearchStrategy[str]:
        fields = st.tuples(spaces, strings, spaces, st.just(":"), spaces, inner, spaces)
        some = st.lists(fields, max_size=4, unique_by=(lambda field: json.loads(field[1])) if unique else None)
        return some.map(lambda some: f"{{{','.join(map(''.join, some))}}}")

    scalars = strings | number_texts() | st.sampled_from(["null", "true", "false"])
    return objects(st.recursive(scalars, lambda inner: arrays(inner) | objects(inner), max_leaves=8))


# Parts of a message


def contexts() -> SearchStrategy[JSONObject]:
    """Return contexts of one consistent shape: a key that is an object in one of them is never a scalar in another.

    Merging is associative for these only.  Few names, so that they collide; leaves are scalars (null too) and arrays.
    """
    leaves = st.none() | st.booleans() | st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2)

    def shape(objects: SearchStrategy[JSONObject] | None) -> SearchStrategy[JSONObject]:
        members: dict[str, SearchStrategy[Any]] = {"ip": leaves, "locale": leaves}
        if objects is not None:
            members |= {"device": objects, "app": objects}
        return st.fixed_dictionaries({}, optional=members)

    return shape(shape(shape(None)))


def integrations() -> SearchStrategy[JSONObject]:
    """Return `integrations` objects: names that exist, that differ by case, that are unknown; flags, options, junk."""
    names = [
        "All",
        "all",
        "ALL",
        "Mixpanel",
        "mixpanel",
        "KISSmetrics",
        "Kissmetrics",
        "Google Analytics",
        "Segment.io",
    ]
    junk = st.sampled_from([None, 0, 1, "true", "", [], ["x"]])
    flags = st.booleans() | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2) | junk
    return st.dictionaries(st.sampled_from(names) | st.text(max_size=5), flags, max_size=6)


def ids() -> SearchStrategy[str]:
    """Return ids that every call accepts: 1 to 100 characters of any kind."""
    some = st.text(min_size=1, max_size=20) | st.text(min_size=100, max_size=100)
    return some.filter(lambda text: not is_blank(text))


def blanks() -> SearchStrategy[str]:
    """Return texts without a visible character."""
    return st.text(" \t\n\x00\x7f\x85\xa0\u00ad\u034f\u061c\u2003\u200b\u202e\u2060\u2800\u3000\u3164\ufeff")


# Times


def times() -> SearchStrategy[datetime]:
    """Return every time in UTC that Python can hold, years 1 to 9999, to the microsecond."""
    return st.datetimes(timezones=st.just(UTC))


def millisecond_times() -> SearchStrategy[datetime]:
    """Return times that the wire format can carry exactly."""
    return times().map(lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000))


def offsets() -> SearchStrategy[timezone]:
    """Return the offsets that clients have: whole minutes, less than a day."""
    return st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def time_values() -> SearchStrategy[Any]:
    """Return values of time fields: good texts in many forms, epochs, other JSON, any text."""
    forms = st.sampled_from(
        [
            "2015-2-02T00:30:08.276Z",
            "2012-12-02T00:30:08.276+01:00",
            "2012-12-02t00:30:08z",
            "2012-12-02 00:30:08,5",
            "2012-12-02T24:00:00Z",
            "2016-12-31T23:59:60Z",
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999999Z",
            "0001-01-01T00:00:00+14:00",
            "1330648208.123456789",
            "1330648208",
            "yesterday",
            "",
        ]
    )
    return forms | times().map(datetime.isoformat) | st.text(max_size=12) | json_values()


# Typed messages

_KNOWN_NAMES = frozenset(
    {"type", "userId", "anonymousId", "messageId", "timestamp", "originalTimestamp", "sentAt", "receivedAt", "context"}
    | {"integrations", "traits", "properties", "event", "name", "category", "groupId", "previousId"}
)


def _common() -> dict[str, SearchStrategy[Any]]:
    time_texts = st.none() | st.text(min_size=1, max_size=8) | times()
    return {
        "anonymous_id": st.none() | ids(),
        "message_id": st.none() | ids(),
        "timestamp": time_texts,
        "original_timestamp": time_texts,
        "sent_at": time_texts,
        "received_at": time_texts,
        "context": st.none() | json_objects(),
        "integrations": st.none() | integrations(),
        "extra": st.dictionaries(
            st.text(max_size=8).filter(lambda name: name not in _KNOWN_NAMES), json_values(), max_size=2
        ),
        "user_id": ids(),
    }


def messages() -> SearchStrategy[Message]:
    """Return messages of all six types that keep the rules, with times as text and as datetimes.

    Without values that the wire cannot represent: empty texts (which are absent), and unpaired surrogates.
    """
    free = st.none() | json_objects()
    text = st.none() | st.text(min_size=1, max_size=20)
    event = ids()
    return st.one_of(
        st.builds(Identify, **_common(), traits=free),
        st.builds(Track, **_common(), event=event, properties=free),
        st.builds(Page, **_common(), name=text, category=text, properties=free),
        st.builds(Screen, **_common(), name=text, category=text, properties=free),
        st.builds(Group, **_common(), group_id=ids(), traits=free),
        st.builds(Alias, **_common(), previous_id=ids()),
    )


def write_keys() -> SearchStrategy[WriteKey]:
    """Return write keys that a body can carry: no white space around them, and not the mask of a write key."""
    texts = st.text(min_size=1, max_size=8).map(str.strip)
    return texts.filter(lambda text: text and not text.endswith("***")).map(WriteKey)


def batches() -> SearchStrategy[Batch]:
    """Return batches of up to four messages, with or without a shared context, integrations, time and key."""
    return st.builds(
        Batch,
        messages=st.lists(messages(), max_size=4),
        context=st.none() | json_objects(),
        integrations=st.none() | integrations(),
        sent_at=st.none() | st.text(min_size=1, max_size=8) | times(),
        write_key=st.none() | write_keys(),
    )


# Wire messages


def wire_messages() -> SearchStrategy[JSONObject]:
    """Return messages that keep the rules, as clients send them: every call, with all sorts of optional parts."""
    optional: dict[str, SearchStrategy[Any]] = {
        "messageId": st.none() | blanks() | ids(),
        "anonymousId": st.none() | blanks() | ids(),
        "timestamp": time_values(),
        "sentAt": time_values(),
        "originalTimestamp": time_values(),
        "receivedAt": time_values(),
        "context": st.none() | st.just([]) | contexts() | json_objects(),
        "integrations": st.none() | st.just([]) | integrations(),
        "properties": st.none() | st.just([]) | json_objects(),
        "traits": st.none() | st.just([]) | json_objects(),
        "writeKey": st.text(max_size=8),
        "version": json_values(),
    }
    required: dict[str, SearchStrategy[Any]] = {"userId": ids() | st.integers(), "type": st.sampled_from(CALLS)}
    always = {"event": ids(), "groupId": ids(), "previousId": ids()}
    return st.fixed_dictionaries(required | always, optional=optional)


def odd_wire_messages() -> SearchStrategy[Any]:
    """Return items of a batch: good messages, messages with any JSON in any field, and values of other types."""
    anything = json_values() | blanks()
    names = sorted(_KNOWN_NAMES | {"writeKey"})
    fields = st.fixed_dictionaries({}, optional=dict.fromkeys(names, anything) | {"type": st.sampled_from(CALLS)})
    spoiled = st.builds(
        lambda good, name, value: good | {name: value},
        wire_messages(),
        st.sampled_from([*names, "user_id", "timeStamp", "messageID", "sent at", "Type"]),
        anything,
    )
    return wire_messages() | spoiled | fields | anything


# Hostile text

_FRAGMENTS = st.sampled_from(
    [
        *(b"NaN", b"-Infinity", b"1e999", b"null", b"-", b"//", b"\r\n", b"\x00"),
        *(b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\", b"\\ud800", b"\\udc00"),
        *(b'"', b"[", b"]", b"{", b"}", b",", b":", b'"batch":', b'"writeKey":"\xff"'),
    ]
)
_TEMPLATES = st.sampled_from(
    [
        b"%s",
        b'{"batch":[%s]}',
        b'{"batch":%s}',
        b'{"context":%s,"batch":[{"type":"page","userId":"u"}]}',
        b'{"writeKey":%s,"sentAt":%s,"batch":[{"type":"page","userId":"u"}]}',
        b'{"batch":[{"type":"track","userId":"u","event":"e","properties":{"x":%s}},{"type":"page","userId":%s}]}',
        b'{"type":"track","userId":"u","event":"e","integrations":{"Mixpanel":%s},"timestamp":%s}',
        b'\xef\xbb\xbf{"type":"identify","userId":%s}',
    ]
)


def json_texts() -> SearchStrategy[bytes]:
    """Return well-formed JSON: any value, and batches of anything; compact, indented, or in ASCII."""
    values = json_values() | st.lists(odd_wire_messages(), max_size=4).map(lambda items: {"batch": items})
    return st.builds(
        lambda value, ascii_only, indent: json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(),
        values,
        st.booleans(),
        st.sampled_from([None, 1]),
    )


def hostile_texts() -> SearchStrategy[bytes]:
    """Return texts that attack a parser.

    JSON that was cut short or into which a fragment was inserted (bad UTF-8, NaN, brackets); nesting from below any
    limit to beyond any stack, closed or not; numbers of up to 6,000 digits; strings of surrogate escapes in any order.
    """
    cut = st.builds(lambda text, at: text[: at % (len(text) + 1)], json_texts(), st.integers(0, 500))
    mutated = st.builds(
        lambda text, at, piece: (at := at % (len(text) + 1), text[:at] + piece + text[at:])[1],
        json_texts(),
        st.integers(0, 500),
        _FRAGMENTS,
    )
    levels = st.integers(60, 70) | st.integers(190, 210) | st.integers(900, 3000)
    deep = st.builds(
        lambda n, inner, close: b"[" * n + inner + b"]" * (n if close else n - 1), levels, _FRAGMENTS, st.booleans()
    ) | st.builds(lambda n: b'{"a":' * n + b"1" + b"}" * n, levels)
    digits = st.builds(lambda n, point: b"7" * n + point, st.integers(1, 6000), st.sampled_from([b"", b".5", b"e5"]))
    escapes = [b"\\ud800", b"\\uDC00", b"\\ud83d\\ude00", b"\\\\", b"\\n", b"ud800", b"\\ufffd", "é".encode(), b"\\u12"]
    surrogates = st.lists(st.sampled_from(escapes), max_size=6).map(lambda pieces: b'"' + b"".join(pieces) + b'"')
    part = cut | mutated | deep | digits | surrogates | _FRAGMENTS
    return st.builds(lambda template, text: template.replace(b"%s", text), _TEMPLATES, part)


def any_bytes() -> SearchStrategy[bytes]:
    """Return any bytes at all, well-formed JSON, and hostile text."""
    return st.binary() | json_texts() | hostile_texts()
