"""The core alone: from the bytes of a batch to envelopes, compared with the floor, pydantic and the standard library.

The floor is msgspec decoding the same bytes into Python values and encoding these: no server in Python can do less.
Rounds are interleaved and measured in CPU time of this process, so that other load on the machine affects all alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click
import msgspec
import pydantic_models
from corpus import BATCH_MESSAGES, ORIGIN, make_bodies, make_collector, make_singles
from in_process import Nowhere, compare
from tables import Goal, Report

from trackcore import Collector

MOST_OF_FLOOR = 2.0
AIM_OF_FLOOR = 1.5
LEAST_OF_PYDANTIC = 1.5

_BODIES = 20


@click.command()
@click.option("--rounds", default=15, show_default=True, metavar="N", help="Rounds of each.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(*, rounds: int, as_json: bool) -> None:
    """Measure intake, in messages per second and core, and its ratio to the floor."""
    bodies = make_bodies(_BODIES)
    collector = make_collector(Nowhere())
    receipts = [collector.receive(body, origin=ORIGIN) for body in bodies]
    assert sum(receipt.accepted for receipt in receipts) == _BODIES * BATCH_MESSAGES, "a message was not accepted"
    batches = compare(_contestants(collector), bodies, rounds)
    singles = compare(
        {
            "floor: msgspec decode + encode": lambda call_and_body: _floor(call_and_body[1]),
            "trackcore intake": lambda pair: collector.receive(pair[1], endpoint=pair[0], origin=ORIGIN),
        },
        make_singles(_BODIES * BATCH_MESSAGES),
        rounds,
    )
    ratio = batches["trackcore intake"] / batches["floor: msgspec decode + encode"]
    Report(
        title="Intake, bytes to envelopes",
        rows=[
            *_rows("batches of 100", batches, BATCH_MESSAGES),
            *_rows("single messages", singles, 1),
        ],
        goals=[
            Goal(name="batches: times the floor", measured=ratio, bound=MOST_OF_FLOOR, at_most=True),
            Goal(name="batches: times the floor, aimed at", measured=ratio, bound=AIM_OF_FLOOR, at_most=True),
            Goal(
                name="times faster than pydantic",
                measured=batches["pydantic parse + dump"] / batches["trackcore intake"],
                bound=LEAST_OF_PYDANTIC,
            ),
        ],
        settings={
            "rounds": rounds,
            "bytes per message": round(sum(map(len, bodies)) / _BODIES / BATCH_MESSAGES),
            "msgspec": msgspec.__version__,
            "pydantic": pydantic_models.VERSION,
        },
    ).tell(as_json=as_json)


def _floor(body: bytes) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(body))


def _standard_library(body: bytes) -> bytes:
    return json.dumps(json.loads(body), ensure_ascii=False, separators=(",", ":")).encode()


def _contestants(collector: Collector) -> dict[str, Callable[[Any], object]]:
    return {
        "floor: msgspec decode + encode": _floor,
        "trackcore intake": lambda body: collector.receive(body, origin=ORIGIN),
        "pydantic parse + dump": pydantic_models.parse_and_dump,
        "json loads + dumps": _standard_library,
    }


def _rows(what: str, times: dict[str, float], messages: int) -> list[dict[str, Any]]:
    floor = next(iter(times.values()))
    return [
        {
            "what": what,
            "who": name,
            "messages/s per core": messages / seconds,
            "us per message": seconds / messages * 1e6,
            "times the floor": seconds / floor,
        }
        for name, seconds in times.items()
    ]


if __name__ == "__main__":
    main()
