"""The cost of a tracking plan: at intake over HTTP, to the core alone, and of hostile patterns and values.

    python benchmarks/plans.py
    python benchmarks/plans.py --http

The plan has 50 events, six of them those of the corpus, and rules for the other calls; every message is as planned.
Intake with and without it is measured in turns, in CPU time.  Over HTTP the log is durable, so that ratio is the one of
a server, and has a target; the ratio to the core alone is larger.  The last table has the times of hostile messages: of
a check, and of intake that omits what violates the plan.  The exit code is 1 if a target is missed.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import click
from comparison import batches, compare, cost_goals, rows, singles
from corpus import BATCH_MESSAGES, ORIGIN, make_bodies, make_collector, make_singles
from in_process import Nowhere
from in_process import compare as compare_in_process
from servers import CURRENT, file_system
from tables import Goal, Report
from trackcore_plans import Form, Inference, compile_schema, write_plan

from trackcore import Collector, JSONObject
from trackcore.plans import Controls, Plan, PlanDocument, PlanInForce, Rule, RuleType, TrackControls, whole_message
from trackcore.text import encode_json

EVENTS = 50
MOST_OF_INTAKE = 1.3
MOST_MS = 100.0
CONNECTIONS = 64

WITHOUT, WITH = "without a plan", f"with a plan of {EVENTS} events"
_BODIES = 20
_CHECKS = 5


@click.command()
@click.option("--http", "over_http", is_flag=True, help="Measure intake over HTTP too.")
@click.option("--rounds", default=5, show_default=True, metavar="N", help="Rounds of each kind.")
@click.option("--seconds", default=5.0, show_default=True, metavar="S", help="Length of one round over HTTP.")
@click.option("--folder", type=click.Path(path_type=Path), help="The folder of the log: the disk to be measured.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(*, over_http: bool, rounds: int, seconds: float, folder: Path | None, as_json: bool) -> None:
    """Measure the cost of a tracking plan."""
    document = corpus_plan()
    reports = [_over_http(document, rounds, seconds, folder)] if over_http else []
    reports += [_in_core(document, rounds), _hostile()]
    for report in reports:
        report.tell(as_json=as_json)
    sys.exit(not all(goal.is_met for report in reports for goal in report.goals))


def corpus_plan() -> PlanDocument:
    """Return a plan that all messages of the corpus follow."""
    inference = Inference()
    for body in make_bodies(_BODIES):
        for message in json.loads(body)["batch"]:
            inference.add(message)
    rules = inference.document("Benchmark").rules
    tracked = [rule for rule in rules if rule.type is RuleType.TRACK]
    others = [attrs.evolve(tracked[0], key=f"Event {number}") for number in range(len(tracked), EVENTS)]
    return PlanDocument(name="Benchmark", rules=(*rules, *others))


def _over_http(document: PlanDocument, rounds: int, seconds: float, folder: Path | None) -> Report:
    with TemporaryDirectory(prefix="trackcore-bench-") as name:
        file = Path(name) / "plan.json"
        file.write_text(write_plan(document, Form.SEGMENT)[0])
        servers = [
            attrs.evolve(CURRENT, name=WITHOUT),
            attrs.evolve(CURRENT, name=WITH, source=f'plan = "{file}"\n'),
        ]
        cases = [singles(CONNECTIONS), batches(CONNECTIONS)]
        results = compare(servers, cases, seconds=seconds, rounds=rounds, folder=folder)
    goals = cost_goals(results, WITHOUT, [WITH], MOST_OF_INTAKE)
    return Report(
        title="A tracking plan at intake, over HTTP",
        rows=rows(results, WITHOUT),
        goals=goals,
        settings={"seconds": seconds, "rounds": rounds, "file system": file_system(folder)},
    )


def _in_core(document: PlanDocument, rounds: int) -> Report:
    without = make_collector(Nowhere())
    plan = PlanInForce(plan=Plan.compile(document, compile_schema))
    collectors = {WITHOUT: without, WITH: attrs.evolve(without, plans={"website": plan})}
    requests = {1: make_singles(_BODIES * BATCH_MESSAGES), 100: [("batch", body) for body in make_bodies(_BODIES)]}
    found = []
    for messages, items in requests.items():
        contestants: dict[str, Callable[[Any], object]] = {
            name: partial(_receive, collector) for name, collector in collectors.items()
        }
        times = compare_in_process(contestants, items, rounds)
        found += [
            {
                "messages in a request": messages,
                "intake": name,
                "us per message": seconds / messages * 1e6,
                "times": seconds / times[WITHOUT],
            }
            for name, seconds in times.items()
        ]
    return Report(title="A tracking plan in the core alone", rows=found, settings={"rounds": rounds})


def _receive(collector: Collector, request: Any) -> None:
    endpoint, body = request
    receipt = collector.receive(body, endpoint=endpoint, origin=ORIGIN)
    assert not any(envelope.warnings for envelope in receipt.envelopes), "a message is not as planned"


# Hostile patterns and values


_BITS = "".join(random.Random(1).choice("01") for _ in range(32_000))
HOSTILE: dict[str, tuple[JSONObject, Any]] = {
    "nested quantifiers": ({"pattern": "^(a+)+$"}, "a" * 32_000 + "b"),
    "a large cheap pattern": ({"pattern": "^(?:x|[01])*1[01]{45}x$"}, _BITS),
    "a costly pattern": ({"pattern": "^(?:x|[01])*1[01]{1500}x$"}, _BITS[:500]),
    "look-around": ({"pattern": "(?=.*x).*(?<!b)y"}, "a" * 500),
    "back-references": ({"pattern": r"(a*)*(?!x)\1b"}, "a" * 500),
    "wrong values in an array": ({"items": {"type": "string"}}, [1] * 16_000),
    "wrong values in arrays": ({"items": {"items": {"type": "string"}}}, [[1] * 100] * 150),
    "wrong values of any name": (
        {"additionalProperties": {"type": "string"}},
        {f"{number:x}": 1 for number in range(3_500)},
    ),
    "unique values": ({"uniqueItems": True}, [{"a": number} for number in range(2_500)]),
    "unplanned names": ({"properties": {"planned": {}}}, {f"{number:x}": 1 for number in range(3_500)}),
    "wrong values of planned names": (
        {"properties": {f"{number:x}": {"type": "string"} for number in range(1_000)}},
        {f"{number:x}": 1 for number in range(1_000)},
    ),
    "wrong values, three levels deep": (
        {"items": {"items": {"items": {"type": "string", "enum": ["a", "b"]}}}},
        [[[1] * 5] * 50] * 50,
    ),
    "wrong values of objects": (
        {"items": {"properties": {f"{number:x}": {"type": "string"} for number in range(90)}}},
        [{f"{number:x}": 1 for number in range(90)}] * 50,
    ),
    "objects that lack 100 fields": (
        {"items": {"items": {"required": [f"{number:x}" for number in range(100)]}}},
        [[{}] * 50] * 50,
    ),
    "unplanned names of objects": ({"items": {"items": {"properties": {"a": {}}}}}, [[{"b": 1}] * 50] * 50),
}


def _hostile() -> Report:
    times = {name: _hostile_times(schema, value) for name, (schema, value) in HOSTILE.items()}
    slowest = max(spent for pair in times.values() for spent in pair)
    return Report(
        title="Hostile patterns and values",
        rows=[
            {"pattern or value": name, "check (ms)": check, "intake that omits (ms)": intake}
            for name, (check, intake) in times.items()
        ],
        goals=[Goal(name="the slowest", measured=slowest, bound=MOST_MS, at_most=True, unit=" ms")],
    )


def _hostile_times(schema: JSONObject, value: Any) -> tuple[float, float]:
    """Return the milliseconds of a check, and of intake of the same message."""
    section = whole_message(RuleType.TRACK, {"properties": {"x": schema}})
    document = PlanDocument(rules=(Rule(type=RuleType.TRACK, key="E", schema=section),))
    plan = Plan.compile(document, compile_schema)
    message = {"type": "track", "userId": "u1", "event": "E", "properties": {"x": value}}
    body = encode_json(message)
    in_force = PlanInForce(plan=plan, controls=Controls(track=_OMITTING))
    collector = attrs.evolve(make_collector(Nowhere()), plans={"website": in_force})
    return _milliseconds(lambda: plan.check(message)), _milliseconds(
        lambda: collector.receive(body, endpoint="track", origin=ORIGIN)
    )


_OMITTING = TrackControls(allow_unplanned_event_properties=False, allow_properties_on_violations=False)


def _milliseconds(measured: Callable[[], object]) -> float:
    spent = []
    for _ in range(_CHECKS):
        start = time.thread_time()
        measured()
        spent.append((time.thread_time() - start) * 1e3)
    return min(spent)


if __name__ == "__main__":
    main()
