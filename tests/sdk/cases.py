"""The calls that every server SDK makes, with content that is awkward on the wire.

Fields have their wire names, which are compared; `{"$date": ...}` represents the language's time type, `{"$day": ...}`
Python's date, `{"$big": ...}` an integer that only Python supports.
"""

from __future__ import annotations

from typing import Any

import attrs

from trackcore import JSONObject

EMOJI = "👩🏽‍🚀 \U0001f600"
RIGHT_TO_LEFT = "שלום עולם · مرحبا"
KILOBYTES_31 = 31 * 1024


@attrs.frozen(kw_only=True)
class Case:
    """One call: its name, the method of the SDK, its fields, and the warnings that the stored message must carry.

    `destinations` are those that must get it, None for all.  `only` names the languages that can express it.
    """

    name: str
    call: str
    fields: JSONObject
    warnings: tuple[str, ...] = ()
    destinations: tuple[str, ...] | None = None
    only: tuple[str, ...] = ("Python", "Node")

    @property
    def has_numeric_id(self) -> bool:
        """Whether an id of the call is a number."""
        return any(isinstance(value, int) for name, value in self.fields.items() if name.endswith("Id"))

    def as_call(self) -> JSONObject:
        """Return the call as the clients read it."""
        return {"case": self.name, "call": self.call, "fields": self.fields}


def _date(text: str) -> JSONObject:
    return {"$date": text}


AWKWARD: dict[str, Any] = {
    "unicode": f"Zoë {EMOJI} {RIGHT_TO_LEFT}",
    "escapes": 'quote " backslash \\ slash / tab \t newline \n line separator \u2028 nul \u0000 </script>',
    "empty": "",
    "nothing": None,
    "yes": True,
    "no": False,
    "zero": 0,
    "negative": -1,
    "price": 14.99,
    "large": 2**53 - 1,
    "list": [1, "two", None, [], {}, {"three": [3]}],
    "object": {},
    "nested": {"a": {"b": {"c": {"d": {"unicode": EMOJI}}}}, "a.b": "dotted", "$set": 1, "": "empty key"},
    "when": _date("2020-01-02T03:04:05.678+00:00"),
}

CONTEXT: dict[str, Any] = {
    "ip": "8.8.8.8",
    "locale": "ar-EG",
    "timezone": "Asia/Kathmandu",
    "userAgent": f"Agent {EMOJI}",
    "app": {"name": "Приложение", "version": "1.0.0", "build": None},
    "device": {"type": "ios", "list": [{"x": 1}]},
    "traits": {"plan": "énterprise"},
    "active": False,
}

SERVER_CASES: tuple[Case, ...] = (
    Case(
        name="identify: everything",
        call="identify",
        fields={
            "userId": f"пользователь-{EMOJI}",
            "anonymousId": "anon-1",
            "traits": {
                "email": "zoë@example.com",
                "name": RIGHT_TO_LEFT,
                "createdAt": _date("2019-12-31T23:59:59.999+00:00"),
            }
            | AWKWARD,
            "context": CONTEXT,
            "integrations": {"All": False, "Mixpanel": True, "Google Analytics": {"clientId": "1.2", "list": [1]}},
            "timestamp": _date("2012-12-02T00:30:08.276+00:00"),
            "messageId": "identify-everything-1",
        },
        destinations=("Mixpanel", "Google Analytics"),
    ),
    Case(
        name="track: everything",
        call="track",
        fields={
            "userId": "user-1",
            "anonymousId": "anon-1",
            "event": f"Товар куплен {EMOJI}",
            "properties": AWKWARD,
            "context": CONTEXT,
            "integrations": {"Mixpanel": False},
            "timestamp": _date("1999-12-31T23:59:59.001+00:00"),
            "messageId": f"track {RIGHT_TO_LEFT}",
        },
        destinations=("KISSmetrics", "Google Analytics"),
    ),
    Case(
        name="page: everything",
        call="page",
        fields={
            "userId": "user-1",
            "name": "Домой",
            "category": "Docs / אבג",
            "properties": {"url": "https://example.com/ä?q=1#f", "path": "/ä"} | AWKWARD,
            "context": CONTEXT,
            "integrations": {},
            "timestamp": _date("2030-01-01T00:00:00.000+00:00"),
            "messageId": "page-everything-1",
        },
    ),
    Case(
        name="screen: everything",
        call="screen",
        fields={
            "anonymousId": "anon-1",
            "name": f"Écran {EMOJI}",
            "category": "Catégorie",
            "properties": AWKWARD,
            "context": CONTEXT,
            "integrations": {"All": True},
            "timestamp": _date("2020-02-29T12:00:00.500+05:45"),
            "messageId": "screen-everything-1",
        },
    ),
    Case(
        name="group: everything",
        call="group",
        fields={
            "userId": "user-1",
            "groupId": "компания/1",
            "traits": {"name": "Initech", "employees": 420} | AWKWARD,
            "context": CONTEXT,
            "integrations": {"All": False},
            "timestamp": _date("2012-12-02T00:30:08.276+00:00"),
            "messageId": "group-everything-1",
        },
        destinations=(),
    ),
    Case(
        name="alias: everything",
        call="alias",
        fields={
            "userId": f"new {RIGHT_TO_LEFT}",
            "previousId": f"old {EMOJI}",
            "context": CONTEXT,
            "integrations": {"All": False, "KISSmetrics": True},
            "timestamp": _date("2012-12-02T00:30:08.276+00:00"),
            "messageId": "alias-everything-1",
        },
        destinations=("KISSmetrics",),
    ),
    # The minimal form of each call: the SDK makes the id and the time.
    *(
        Case(name=f"{call}: bare", call=call, fields={**fields, "userId": f"bare-{call}"})
        for call, fields in {
            "identify": {},
            "track": {"event": "Bare"},
            "page": {},
            "screen": {"name": "Bare"},
            "group": {"groupId": "bare"},
            "alias": {"previousId": "bare-before"},
        }.items()
    ),
    Case(
        name="track: 31 KB in one property",
        call="track",
        fields={
            "anonymousId": "anon-large",
            "event": "Large",
            "properties": {"blob": "x" * KILOBYTES_31},
            "messageId": "track-large",
        },
    ),
    Case(
        name="page: empty strings",
        call="page",
        fields={
            "userId": "",
            "anonymousId": "anon-empty",
            "name": "",
            "category": "",
            "properties": {"title": "", "": ""},
            "messageId": "page-empty",
        },
    ),
    Case(
        name="group: numeric ids",
        call="group",
        fields={"userId": 12345, "groupId": 42, "traits": {"n": 1}, "messageId": "group-numbers"},
    ),
    Case(
        name="alias: numeric ids",
        call="alias",
        fields={"userId": 12345, "previousId": 99, "messageId": "alias-numbers"},
    ),
    Case(
        name="track: numeric anonymousId",
        call="track",
        fields={"anonymousId": 7, "event": "Numbers", "properties": {"n": 1}, "messageId": "track-numbers"},
    ),
    Case(
        name="track: lone surrogate",
        call="track",
        fields={
            "userId": "user-1",
            "event": "Surrogate",
            "properties": {"broken": "a\ud800b"},
            "messageId": "track-surrogate",
        },
        warnings=("surrogate_replaced",),
    ),
    Case(
        name="track: 2**70 and a date",
        call="track",
        fields={
            "userId": "user-1",
            "event": "Big",
            "properties": {"big": {"$big": str(2**70)}, "day": {"$day": "2020-02-29"}},
            "messageId": "track-big",
        },
        only=("Python",),
    ),
    Case(
        name="track: direct",
        call="track",
        fields={
            "userId": "user-1",
            "event": "Direct",
            "context": {"direct": True},
            "messageId": "track-direct",
        },
    ),
)


# A page sets the context, and a call may add to it; user agent and time zone are always the browser's.
PAGE_CONTEXT: dict[str, Any] = {name: CONTEXT[name] for name in ("ip", "locale", "app", "device", "traits", "active")}

# Before the visitor is identified a message has no userId; afterwards it always has that of the identify.
VISITOR = f"посетитель {EMOJI}"

BROWSER_CASES: tuple[Case, ...] = (
    # With the snippet, the first two are made before the SDK is loaded.
    Case(name="track: anonymous", call="track", fields={"event": f"Просмотр {EMOJI}", "properties": AWKWARD}),
    Case(
        name="page: everything",
        call="page",
        fields={
            "category": "Docs / אבג",
            "name": "Домой",
            "properties": {"color": "blau"} | AWKWARD,
            "context": PAGE_CONTEXT,
            "integrations": {"All": False, "Mixpanel": True, "Google Analytics": {"clientId": "1.2"}},
            "timestamp": _date("2012-12-02T00:30:08.276+00:00"),
            "messageId": f"page {RIGHT_TO_LEFT}",
        },
        destinations=("Mixpanel", "Google Analytics"),
    ),
    Case(
        name="alias: anonymous",
        call="alias",
        fields={"userId": VISITOR, "previousId": "old visitor", "messageId": "alias-anonymous"},
    ),
    Case(name="track: bare", call="track", fields={"event": "Bare"}),
    Case(
        name="identify: everything",
        call="identify",
        fields={
            "userId": VISITOR,
            "traits": {"createdAt": _date("2019-12-31T23:59:59.999+00:00")} | AWKWARD,
            "context": PAGE_CONTEXT,
            "integrations": {"Mixpanel": False},
            "timestamp": _date("1999-12-31T23:59:59.001+00:00"),
            "messageId": "identify-everything",
        },
        destinations=("KISSmetrics", "Google Analytics"),
    ),
    Case(
        name="group: everything",
        call="group",
        fields={
            "groupId": "компания/1",
            "traits": {"employees": 420} | AWKWARD,
            "context": PAGE_CONTEXT,
            "integrations": {"All": False},
            "timestamp": _date("2030-01-01T00:00:00.000+00:00"),
            "messageId": "group-everything",
        },
        destinations=(),
    ),
    Case(
        name="screen: everything",
        call="screen",
        fields={
            "category": "Catégorie",
            "name": f"Écran {EMOJI}",
            "properties": AWKWARD,
            "context": PAGE_CONTEXT,
            "messageId": "screen-everything",
        },
    ),
    Case(
        name="page: empty strings",
        call="page",
        fields={"category": "", "name": "", "properties": {"x": ""}, "messageId": "page-empty"},
    ),
    Case(
        name="track: lone surrogate",
        call="track",
        fields={"event": "Surrogate", "properties": {"broken": "a\ud800b"}, "messageId": "track-surrogate"},
        warnings=("surrogate_replaced",),
    ),
    Case(
        name="track: 31 KB in one property",
        call="track",
        fields={"event": "Large", "properties": {"blob": "x" * 31_000}, "messageId": "track-large"},
    ),
)


def cases_for(language: str, *, takes_numbers: bool) -> tuple[Case, ...]:
    """Return the calls that an SDK of this language can make."""
    return tuple(case for case in SERVER_CASES if language in case.only and (takes_numbers or not case.has_numeric_id))


def numbered_calls(count: int, *, prefix: str = "numbered") -> list[JSONObject]:
    """Make calls of one user, numbered in order by `properties.n`."""
    return [
        {
            "case": f"{prefix}-{n}",
            "call": "track",
            "fields": {
                "userId": "user-1",
                "event": "Numbered",
                "properties": {"n": n},
                "messageId": f"{prefix}-{n}",
            },
        }
        for n in range(count)
    ]
