"""The cost at intake of consent, of the rule for addresses, and of masks: `trackcore serve` with and without them.

    python benchmarks/privacy.py

All servers get the same messages, each with an address and with consent in its context.  `--core` measures the core
alone in this process instead, where other load on the machine affects all alike.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import attrs
import click
from comparison import batches, compare, cost_goals, rows, singles
from corpus import BATCH_MESSAGES, KEY, ORIGIN, make_bodies, make_collector, make_singles
from in_process import Nowhere, fastest
from load import Request, make_request
from servers import CURRENT, RunningServer, Trackcore, file_system
from tables import Report

from trackcore import Collector, Source
from trackcore.consent import ConsentRule
from trackcore.privacy import IpRule, PrivacyRules

MOST_COST = 1.05
"""How many times the CPU time of a server without the rules is wanted at most."""

_CORE_BODIES = 20
_CORE_SINGLES = 300
_SINGLES = 500
_BODIES = 50
_CONSENT = 'consent = ["Analytics"]\n'
_IP = '[sources.ip]\nmode = "truncate"\n'
_MASK = '[[sources.mask]]\nfields = ["traits.email"]\naction = "drop"\n'


@attrs.frozen(kw_only=True)
class Private(Trackcore):
    """A trackcore that gets messages with personal data."""

    @contextmanager
    def serve(self, data: Path) -> Iterator[RunningServer]:
        """Run it."""
        with Trackcore.serve(self, data) as server:
            yield attrs.evolve(server, requests=_requests)


@cache
def _requests(messages: int) -> Sequence[Request]:
    if messages == 1:
        found = make_singles(_SINGLES)
        return [
            make_request(f"/v1/{call}", _personal(body, place), key=KEY) for place, (call, body) in enumerate(found)
        ]
    assert messages == BATCH_MESSAGES
    return [
        make_request("/v1/batch", _personal(body, place), key=KEY) for place, body in enumerate(make_bodies(_BODIES))
    ]


def _personal(body: bytes, place: int) -> bytes:
    """Add an address and consent to each message."""
    document = json.loads(body)
    for index, message in enumerate(document.get("batch", [document])):
        _add_context(message, place * BATCH_MESSAGES + index)
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _add_context(message: dict[str, Any], number: int) -> None:
    context = message.setdefault("context", {})
    context["ip"] = f"203.0.{number // 256 % 256}.{number % 256}"
    context["consent"] = {"categoryPreferences": {"Analytics": number % 3 > 0, "Advertising": number % 2 > 0}}


@click.command()
@click.option("--connections", default=64, show_default=True, metavar="N")
@click.option("--seconds", default=5.0, show_default=True, metavar="S", help="Length of one round.")
@click.option("--rounds", default=5, show_default=True, metavar="N", help="Rounds of each kind.")
@click.option("--folder", type=click.Path(path_type=Path), help="The folder of the log: the disk to be measured.")
@click.option("--core", is_flag=True, help="Measure the core alone, in this process.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(*, connections: int, seconds: float, rounds: int, folder: Path | None, core: bool, as_json: bool) -> None:
    """Measure what the rules cost, with single messages and with batches of 100.  Exits 1 above the target."""
    if core:
        Report(
            title="Rules about personal data, in the core",
            rows=_core_rows(rounds),
            goals=[],
            settings={"rounds": rounds},
        ).tell(as_json=as_json)
        return
    plain = Private(name="without", folder=CURRENT.folder)
    consent = attrs.evolve(plain, name="consent", destination=_CONSENT)
    address = attrs.evolve(plain, name="addresses", source=_IP)
    both = attrs.evolve(plain, name="consent, addresses", source=_IP, destination=_CONSENT)
    masked = attrs.evolve(plain, name="masks", source=_MASK)
    cases = [singles(connections), batches(connections)]
    results = compare([plain, consent, address, both, masked], cases, seconds=seconds, rounds=rounds, folder=folder)
    goals = cost_goals(results, plain.name, [consent.name, address.name, both.name], MOST_COST)
    Report(
        title="Rules about personal data, over HTTP",
        rows=rows(results, plain.name),
        goals=goals,
        settings={"seconds": seconds, "rounds": rounds, "file system": file_system(folder)},
    ).tell(as_json=as_json)
    failed = any(result.failures for result in results.values())
    sys.exit(failed or not all(goal.is_met for goal in goals))


def _core_rows(rounds: int) -> list[dict[str, Any]]:
    """Measure each set of rules in turns, item by item."""
    bodies = [_personal(body, place) for place, body in enumerate(make_bodies(_CORE_BODIES))]
    found = make_singles(_CORE_SINGLES)
    messages = [(call, _personal(body, place)) for place, (call, body) in enumerate(found)]
    collectors = {
        "without": _collector(),
        "consent": _collector(with_consent=True),
        "addresses": _collector(with_rule=True),
        "consent, addresses": _collector(with_consent=True, with_rule=True),
    }
    for_bodies = {name: partial(_receive_batch, collector) for name, collector in collectors.items()}
    for_messages = {name: partial(_receive_single, collector) for name, collector in collectors.items()}
    return [
        *_times("batches of 100", fastest(for_bodies, bodies, rounds), BATCH_MESSAGES),
        *_times("single messages", fastest(for_messages, messages, rounds), 1),
    ]


def _collector(*, with_consent: bool = False, with_rule: bool = False) -> Collector:
    consent = ConsentRule(categories=["Analytics"]) if with_consent else None
    plain = make_collector(Nowhere())
    return Collector(
        sources=[Source(name="website", write_keys=[KEY])],
        destinations=[attrs.evolve(one, consent=consent) for one in plain.destinations],
        sink=plain.sink,
        clock=plain.clock,
        new_message_id=plain.new_message_id,
        privacy={"website": PrivacyRules(ip=IpRule(mode="truncate"))} if with_rule else {},
    )


def _receive_batch(collector: Collector, body: bytes) -> None:
    collector.receive(body, origin=ORIGIN)


def _receive_single(collector: Collector, call_and_body: tuple[Any, bytes]) -> None:
    call, body = call_and_body
    collector.receive(body, endpoint=call, origin=ORIGIN)


def _times(what: str, seconds: dict[str, float], messages: int) -> list[dict[str, Any]]:
    return [
        {"what": what, "rules": name, "us per message": each / messages * 1e6, "times": each / seconds["without"]}
        for name, each in seconds.items()
    ]


if __name__ == "__main__":
    main()
