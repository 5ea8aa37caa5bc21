"""A source with a tracking plan, in a real server: its answers, its log, and a plan that is changed while it runs."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from patience import wait_for
from trackcore_server import ConfigurationError, create_collector, load_configuration, parse_configuration
from trackcore_server.config.plans import PlannedSource

from trackcore import MemorySink
from trackcore.plans import Controls, TrackControls

Serve = Callable[..., Any]
Run = Callable[..., Result]
Lines = Callable[[Result], list[Any]]

SOURCE = """
[[sources]]
name = "website"
write_keys = ["key"]
plan = "plan.yaml"
"""
BLOCKING = (
    f"{SOURCE}[sources.plan_controls.track]\nallowUnplannedEvents = false\nallowUnplannedEventProperties = false\n"
)
PLAN = """
events:
  - event: Order Completed
    properties:
      total: {type: number, required: true}
"""


def track(event: str, **properties: object) -> dict[str, object]:
    return {"type": "track", "userId": "u1", "event": event, "properties": properties}


@pytest.fixture(name="configure")
def _configure(tmp_path: Path) -> Callable[[str, str], None]:
    """Write the configuration and the plan."""

    def write(configuration: str, plan: str = PLAN) -> None:
        (tmp_path / "trackcore.toml").write_text(configuration)
        (tmp_path / "plan.yaml").write_text(plan)

    return write


class TestServer:
    """The answer stays 200; what is omitted or blocked is kept as received, listed and explained."""

    def test_what_the_client_and_the_log_get(
        self, serve: Serve, run: Run, lines: Lines, configure: Callable[..., None]
    ) -> None:
        configure(BLOCKING)
        served = serve()
        batch = [track("Order Completed", total=1), track("Order completed"), track("Order Completed", total="1", x=1)]
        status, body = served.post("/v1/batch", {"batch": batch}, "key")
        assert (status, body["code"], body["accepted"]) == (200, "partial", 2)
        assert [(found["index"], found["code"]) for found in body["rejected"]] == [(1, "plan_blocked")]
        good, wrong = lines(run("events"))
        assert good["warnings"] == []
        assert [warning["code"] for warning in wrong["warnings"]] == ["plan_wrong_type", "plan_unplanned_property"]
        assert wrong["message"]["properties"] == {"total": "1"}
        blocked, omitted = lines(run("rejected"))
        assert [record["code"] for record in (blocked, omitted)] == ["plan_blocked", "plan_omitted"]
        assert json.loads(omitted["payload"]) == batch[2]
        (explained,) = lines(run("explain", str(wrong["seq"])))
        assert explained["warnings"][0]["message"] == '`properties.total` must be a number, found a string: "1"'
        assert "remedy" in explained["warnings"][0]
        (stats,) = lines(run("stats", "--since", "1d"))
        assert "plan_wrong_type" in json.dumps(stats)
        assert "plan_blocked" in json.dumps(stats)

    def test_hang_up_reads_plans_again_and_a_broken_one_changes_nothing(
        self, serve: Serve, configure: Callable[..., None]
    ) -> None:
        configure(BLOCKING)
        served = serve()

        def is_blocked() -> bool:
            status, body = served.post("/v1/track", track("New"), "key")
            assert status == 200
            return "rejected" in body

        assert is_blocked()
        configure(BLOCKING, f"{PLAN}  - event: New\n")
        served.process.send_signal(signal.SIGHUP)
        wait_for(lambda: not is_blocked())
        configure(BLOCKING, "events:\n  - evnt: New\n")
        served.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "Keeping the previous configuration" in served.stderr())
        assert "events[0].evnt: unknown; did you mean 'event'?" in served.stderr()
        assert not is_blocked()

    def test_strict_mode_answers_400_with_the_violations(self, serve: Serve, configure: Callable[..., None]) -> None:
        configure(SOURCE.replace("plan =", "strict = true\nplan ="))
        served = serve()
        status, body = served.post("/v1/batch", {"batch": [track("Order Completed", total=1), track("Other")]}, "key")
        assert (status, body["code"], body["accepted"], body["rejected"]) == (400, "plan_unplanned_event", 2, [])
        assert [(found["index"], found["path"]) for found in body["violations"]] == [(1, "event")]
        assert served.post("/v1/track", track("Order Completed", total=1), "key")[0] == 200


class TestConfiguration:
    """`[[sources]] plan` and `[sources.plan_controls]`, with Segment's names of settings."""

    def test_a_blocked_message_is_received_again_under_a_changed_plan(
        self, run: Run, tmp_path: Path, configure: Callable[..., None], lines: Lines
    ) -> None:
        configure(BLOCKING)
        collector = create_collector(load_configuration(tmp_path / "trackcore.toml"))
        collector.receive(json.dumps({"batch": [track("New")], "writeKey": "key"}).encode())
        collector.sink.close()  # type: ignore[attr-defined]
        assert lines(run("events")) == []
        configure(BLOCKING, f"{PLAN}  - event: New\n")
        assert run("rejected", "--retry").exit_code == 0
        assert [record["message"]["event"] for record in lines(run("events"))] == ["New"]

    @pytest.mark.parametrize(
        ("controls", "path", "detail"),
        [
            ("track.allowUnplannedEvent = false", "track.allowUnplannedEvent", "did you mean 'allowUnplannedEvents'?"),
            ('track.allowUnplannedEvents = "no"', "track.allowUnplannedEvents", "expected a boolean, found a string"),
            ('track.commonEventOnViolations = "DROP"', "track.commonEventOnViolations", "expected one of ALLOW"),
            ("page.allowUnplannedTraits = true", "page", "valid settings: track, identify, group"),
            ('forwardingViolationsTo = "other"', "forwardingViolationsTo", "there is no source 'other'"),
            ('forwardingBlockedEventsTo = "website"', "forwardingBlockedEventsTo", "cannot forward to itself"),
        ],
    )
    def test_mistakes_in_controls(self, controls: str, path: str, detail: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            parse_configuration(f"{SOURCE}plan_controls.{controls}\n")
        assert caught.value.path == f"sources[0].plan_controls.{path}"
        assert detail in caught.value.detail

    def test_the_controls(self) -> None:
        controls = "plan_controls = {violationErrors = true, track = {allowUnplannedEvents = false}}"
        (source,) = parse_configuration(f"{SOURCE}{controls}\n").sources
        assert isinstance(source, PlannedSource)
        assert source.plan_controls == Controls(
            violation_errors=True, track=TrackControls(allow_unplanned_events=False)
        )

    def test_controls_without_a_plan(self) -> None:
        text = SOURCE.replace('plan = "plan.yaml"', "plan_controls.track.allowUnplannedEvents = false")
        with pytest.raises(ConfigurationError) as caught:
            parse_configuration(text)
        assert (caught.value.path, caught.value.detail) == (
            "sources[0].plan_controls",
            "there is no plan for these controls",
        )

    @pytest.mark.parametrize("plan", [None, "events: 1"])
    def test_a_plan_that_cannot_be_used(self, tmp_path: Path, configure: Callable[..., None], plan: str | None) -> None:
        configure(SOURCE, plan or "")
        if plan is None:
            (tmp_path / "plan.yaml").unlink()
        with pytest.raises(ConfigurationError) as caught:
            create_collector(load_configuration(tmp_path / "trackcore.toml"), MemorySink())
        assert caught.value.path == "sources[0].plan"
        assert str(tmp_path / "plan.yaml") in caught.value.detail
