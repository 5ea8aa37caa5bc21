"""The cost of a tracking plan: to the core, per message, and of hostile patterns and values.

The first table compares intake without a plan and with one of 50 events, in turns, without a log: so the ratio is that
of the core alone, and smaller over HTTP.  The second one has the time of one check; the exit code is 1 if any takes
longer than `MOST_MS`.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from trackcore_plans import compile_schema

from trackcore import Collector, Envelope, JSONObject, Outcome, QuarantinedRequest, RejectedRecord, Source
from trackcore.plans import Plan, PlanDocument, PlanInForce, Rule, RuleType, whole_message

MOST_MS = 100
ROUNDS = 5
NOW = datetime(2026, 1, 31, tzinfo=UTC)
ORDER: JSONObject = {
    "properties": {
        "order_id": {"type": "string"},
        "revenue": {"type": "number", "minimum": 0},
        "currency": {"type": ["string", "null"], "pattern": "^[A-Z]{3}$"},
        "products": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"sku": {"type": "string"}, "price": {"type": "number"}},
                "required": ["sku"],
            },
        },
    },
    "required": ["order_id", "revenue"],
}
EVENTS = [f"Event {number} Completed" for number in range(50)]


class NullSink:
    """Stores nothing."""

    def store(
        self,
        envelopes: Sequence[Envelope],
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """Report every message as stored."""
        del rejected, quarantined
        return [Outcome.STORED] * len(envelopes)

    def check_ready(self) -> None:
        """Return at once."""


def plan_of(sections: dict[str, JSONObject]) -> Plan:
    schemas = {name: whole_message(RuleType.TRACK, section) for name, section in sections.items()}
    rules = tuple(Rule(type=RuleType.TRACK, key=name, schema=schema) for name, schema in schemas.items())
    return Plan.compile(PlanDocument(name="Benchmark", rules=rules), compile_schema)


def collector(plan: Plan | None) -> Collector:
    return Collector(
        sources=[Source(name="website", write_keys=["key"])],
        sink=NullSink(),
        clock=lambda: NOW,
        new_message_id=lambda: "id",
        plans={} if plan is None else {"website": PlanInForce(plan=plan)},
    )


def body(count: int) -> bytes:
    rng = random.Random(1)
    products = [{"sku": "a", "price": 1.5}, {"sku": "b", "price": 2.5}]
    properties = {"order_id": "o-1", "revenue": 9.5, "currency": "EUR", "products": products}
    context = {"ip": "1.2.3.4", "library": {"name": "analytics", "version": "1"}, "locale": "en-GB"}
    batch = [
        {
            "type": "track",
            "userId": "u1",
            "messageId": f"m{number}",
            "timestamp": "2026-01-30T00:00:00Z",
            "event": rng.choice(EVENTS),
            "properties": properties,
            "context": context,
        }
        for number in range(count)
    ]
    return json.dumps({"batch": batch, "writeKey": "key", "sentAt": "2026-01-30T00:00:01Z"}).encode()


def intake() -> None:
    plan = plan_of(dict.fromkeys(EVENTS, ORDER))
    print(f"{'messages in a request':24} {'without (us)':>14} {'with a plan':>14} {'ratio':>8}")
    for count, repeats in ((1, 1_000), (100, 40)):
        text, best = body(count), {}
        for _ in range(ROUNDS):
            for name, receiver in (("without", collector(None)), ("with", collector(plan))):
                start = time.process_time()
                for _ in range(repeats):
                    receiver.receive(text)
                spent = (time.process_time() - start) / repeats / count * 1e6
                best[name] = min(best.get(name, spent), spent)
        print(f"{count:24} {best['without']:14.1f} {best['with']:14.1f} {best['with'] / best['without']:8.2f}")


BITS = "".join(random.Random(1).choice("01") for _ in range(32_000))
HOSTILE: dict[str, tuple[JSONObject, Any]] = {
    "nested quantifiers": ({"pattern": "^(a+)+$"}, "a" * 32_000 + "b"),
    "a large cheap pattern": ({"pattern": "^(?:x|[01])*1[01]{45}x$"}, BITS),
    "a costly pattern": ({"pattern": "^(?:x|[01])*1[01]{1500}x$"}, BITS[:500]),
    "look-around": ({"pattern": "(?=.*x).*(?<!b)y"}, "a" * 500),
    "back-references": ({"pattern": r"(a*)*(?!x)\1b"}, "a" * 500),
    "wrong values in an array": ({"items": {"type": "string"}}, [1] * 16_000),
    "wrong values in arrays": ({"items": {"items": {"type": "string"}}}, [[1] * 100] * 160),
    "wrong values of any name": (
        {"additionalProperties": {"type": "string"}},
        {f"{number:x}": 1 for number in range(4_500)},
    ),
    "unique values": ({"uniqueItems": True}, [{"a": number} for number in range(3_000)]),
    "unplanned names": ({"properties": {"planned": {}}}, {f"{number:x}": 1 for number in range(4_500)}),
}


def hostile() -> bool:
    print(f"\n{'hostile pattern or value':32} {'one check (ms)':>14}")
    worst = 0.0
    for name, (schema, value) in HOSTILE.items():
        plan = plan_of({"E": {"properties": {"x": schema}}})
        message = {"type": "track", "userId": "u1", "event": "E", "properties": {"x": value}}
        spent = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            plan.check(message)
            spent.append((time.perf_counter() - start) * 1e3)
        worst = max(worst, min(spent))
        print(f"{name:32} {min(spent):14.1f}")
    return worst <= MOST_MS


if __name__ == "__main__":
    intake()
    sys.exit(0 if hostile() else 1)
