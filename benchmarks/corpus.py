"""The messages of all benchmarks: generated from a seed, so every run on every machine uses the same bytes.

They are built as SDKs build them: mostly track, each with its own context (a page or a device), free-form properties
with prices, lists and nested objects, and some text that is not ASCII; about 720 bytes a message as compact JSON.  A
batch holds 100, with a context and integrations that are merged into those of its messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from trackcore import Collector, Destination, Origin, Sink, Source, WriteKey

SEED = 20_260_101
BATCH_MESSAGES = 100
KEY = WriteKey("benchmark-key")
ORIGIN = Origin(header_key=KEY)

DESTINATIONS = tuple(
    Destination(name=name)
    for name in (
        "Amplitude",
        "Braze",
        "Customer.io",
        "Facebook Pixel",
        "Google Analytics",
        "HubSpot",
        "Intercom",
        "KISSmetrics",
        "Mixpanel",
        "Salesforce",
    )
)
SENT_AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""The clock of the imagined clients."""

JSON = dict[str, Any]

_CALLS = ("identify", "track", "page", "screen", "group", "alias")
_CALL_WEIGHTS = (12, 64, 14, 4, 4, 2)
_EVENTS = (
    "Product Viewed",
    "Product Added",
    "Order Completed",
    "Signed Up",
    "Coupon Applied",
    "Video Playback Started",
)
_PRODUCTS = ("Monopoly: 3rd Edition", "Uno Card Game", "Brettspiel für Große", "カルカソンヌ", "Chess Set, Walnut")
_CITIES = ("Zürich", "San Francisco", "São Paulo", "Tokyo", "Nairobi")
_USER_AGENTS = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/22B83",
)


def make_bodies(count: int, *, seed: int = SEED, message_ids: bool = True) -> list[bytes]:
    """Build bodies for `/v1/batch`, of 100 messages each.

    Args:
        count: the number of bodies.
        seed: the seed of their content.
        message_ids: whether messages carry a messageId; without, the server makes one, so the same body can be sent
            again and again and is never a duplicate.
    """
    random = Random(seed)
    return [_dump(_batch(random, message_ids=message_ids)) for _ in range(count)]


def make_singles(count: int, *, seed: int = SEED, message_ids: bool = True) -> list[tuple[str, bytes]]:
    """Build `(call, body)` pairs for `/v1/<call>`; the arguments are those of `make_bodies`."""
    random = Random(seed)
    return [_single(message) for message in _messages(random, count, message_ids=message_ids)]


def make_collector(sink: Sink) -> Collector:
    """Build a collector with 10 destinations, a real clock and cheap message ids."""
    random = Random(SEED)
    return Collector(
        sources=[Source(name="website", write_keys=[KEY])],
        destinations=DESTINATIONS,
        sink=sink,
        clock=lambda: datetime.now(UTC),
        new_message_id=lambda: _uuid(random),
    )


def _batch(random: Random, *, message_ids: bool) -> JSON:
    return {
        "batch": list(_messages(random, BATCH_MESSAGES, message_ids=message_ids)),
        "context": {
            "library": {"name": "analytics-python", "version": "2.3.3"},
            "app": {"name": "Shop", "version": "3.1.0", "build": "310"},
            "ip": "203.0.113.9",
        },
        "integrations": {"All": True, "Salesforce": False, "Mixpanel": {"sessionId": "1767268800"}},
        "sentAt": _time_text(SENT_AT),
    }


def _single(message: JSON) -> tuple[str, bytes]:
    body = {name: value for name, value in message.items() if name != "type"}
    return message["type"], _dump({**body, "sentAt": _time_text(SENT_AT)})


def _messages(random: Random, count: int, *, message_ids: bool) -> Iterator[JSON]:
    for index, call in enumerate(random.choices(_CALLS, _CALL_WEIGHTS, k=count)):
        message: JSON = {"type": call}
        if message_ids:
            message["messageId"] = _uuid(random)
        message["anonymousId"] = _uuid(random)
        message["userId"] = f"user-{random.randrange(50_000)}"
        message["timestamp"] = _time_text(SENT_AT - timedelta(milliseconds=10 * (count - index)))
        message.update(_MAKERS[call](random))
        message["context"] = _context(random)
        if random.random() < 0.1:  # noqa: PLR2004 - one in ten
            message["integrations"] = {"All": True, "Intercom": False}
        yield message


def _track(random: Random) -> JSON:
    price = round(random.uniform(1, 200), 2)
    properties = {
        "product_id": f"{random.getrandbits(96):024x}",
        "sku": f"G-{random.randrange(1000)}",
        "category": "Games",
        "name": random.choice(_PRODUCTS),
        "brand": "Hasbro",
        "price": price,
        "quantity": random.randint(1, 5),
        "currency": "EUR",
        "coupon": None,
        "is_member": random.random() < 0.5,  # noqa: PLR2004 - half
        "tags": ["new", "sale"],
        "shipping": {"method": "express", "cost": round(price / 10, 2)},
    }
    return {"event": random.choice(_EVENTS), "properties": properties}


def _page(random: Random) -> JSON:
    return {
        "name": "Product",
        "category": "Shop",
        "properties": {"title": "Shop", "sku": f"G-{random.randrange(1000)}"},
    }


def _identify(random: Random) -> JSON:
    traits = {
        "email": f"person{random.randrange(50_000)}@example.com",
        "firstName": "Peter",
        "lastName": "Gibbons",
        "plan": random.choice(("free", "pro")),
        "logins": random.randrange(1000),
        "createdAt": "2025-03-04T05:06:07.089Z",
        "address": {"city": random.choice(_CITIES), "postalCode": "94103", "country": "USA"},
    }
    return {"traits": traits}


def _group(random: Random) -> JSON:
    traits = {"name": "Initech", "industry": "Technology", "employees": random.randrange(1000), "plan": "enterprise"}
    return {"groupId": f"group-{random.randrange(1000)}", "traits": traits}


def _alias(random: Random) -> JSON:
    return {"previousId": _uuid(random)}


_MAKERS = {"identify": _identify, "track": _track, "page": _page, "screen": _page, "group": _group, "alias": _alias}


def _context(random: Random) -> JSON:
    path = f"/products/{random.randrange(500)}"
    return {
        "page": {
            "path": path,
            "url": f"https://shop.example.com{path}?ref=mail",
            "title": "Shop",
            "search": "?ref=mail",
        },
        "userAgent": random.choice(_USER_AGENTS),
        "locale": random.choice(("en-US", "de-CH", "ja-JP")),
        "timezone": "Europe/Zurich",
    }


def _uuid(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))


def _time_text(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _dump(value: JSON) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
