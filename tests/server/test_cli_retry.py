import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

Run = Callable[..., Result]
Fill = Callable[..., None]
Lines = Callable[[Result], list[Any]]

TRACK = {"type": "track", "event": "Bought", "userId": "u1"}
RECEIVED_AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(name="configure")
def _configure(tmp_path: Path) -> Callable[..., None]:
    folder = tmp_path / "trackcore-data"

    def configure(*keys: str, message_bytes: int = 32_768) -> None:
        folder.mkdir(exist_ok=True)
        text = f'[[sources]]\nname = "website"\nwrite_keys = {json.dumps(keys)}\n'
        (folder / "trackcore.toml").write_text(f"{text}[limits]\nmessage_bytes = {message_bytes}\n")

    return configure


class TestQuarantine:
    """A quarantined request goes through intake with its original receivedAt, and is marked as repaired."""

    def test_after_the_key_was_added(self, run: Run, fill: Fill, lines: Lines, configure: Callable[..., None]) -> None:
        configure("key")
        fill(TRACK, {**TRACK, "userId": None}, write_key="the-lost-key")
        refused = run("rejected", "--quarantine", "--retry")
        assert refused.exit_code == 1
        assert refused.stderr == "1 still refused\n"
        (repair,) = lines(refused)
        assert (repair["outcome"], repair["code"]) == ("refused", "unknown_source")
        assert run("events").stdout == ""

        configure("key", "the-lost-key")
        (repair,) = lines(run("rejected", "--quarantine", "--retry"))
        assert repair == {
            "part": "quarantine",
            "seq": 1,
            "outcome": "partial",
            "stored": 1,
            "duplicates": 0,
            "rejected": 1,
            "code": "no_user_anon_id",
            "detail": "a message needs a userId or an anonymousId",
        }
        (event,) = lines(run("events"))
        assert event["message"]["receivedAt"] == "2026-01-31T12:00:00.000Z"
        assert [warning["code"] for warning in event["warnings"]] == ["repaired"]

        (repair,) = lines(run("rejected", "--quarantine", "--retry"))
        assert (repair["stored"], repair["duplicates"]) == (0, 1), "doing it twice stores nothing twice"
        assert len(lines(run("events"))) == 1

    def test_one_of_several(self, run: Run, fill: Fill, lines: Lines, configure: Callable[..., None]) -> None:
        configure("key", "the-lost-key")
        for event in ("A", "B", "C"):
            fill({**TRACK, "event": event}, write_key="lost")
        configure("key", "lost")
        result = run("rejected", "--quarantine", "--retry", "--seq", "2")
        assert (result.exit_code, result.stderr) == (0, "1 repaired\n")
        assert [event["message"]["event"] for event in lines(run("events"))] == ["B"]
        assert run("rejected", "--quarantine", "--retry", "--seq", "9").stderr == "there was nothing to receive again\n"


class TestRejected:
    def test_after_a_limit_was_raised(self, run: Run, fill: Fill, lines: Lines, configure: Callable[..., None]) -> None:
        large = {**TRACK, "text": "x" * 40_000}
        configure("key")
        fill(large)
        (repair,) = lines(run("rejected", "--retry"))
        assert (repair["outcome"], repair["code"]) == ("refused", "message_too_large")
        configure("key", message_bytes=65_536)
        (repair,) = lines(run("rejected", "--retry", "--code", "message_too_large"))
        assert (repair["outcome"], repair["stored"]) == ("repaired", 1)
        (event,) = lines(run("events"))
        assert event["message"]["text"] == large["text"]
        assert event["source"] == "website"
        assert len(lines(run("rejected"))) == 1, "its record stays"

    def test_of_which_type_it_is_must_be_known(
        self, run: Run, fill: Fill, lines: Lines, configure: Callable[..., None]
    ) -> None:
        configure("key")
        fill({"userId": "u1"}, {"type": "track", "userId": "u1"})
        untyped, eventless = lines(run("rejected", "--retry"))
        assert untyped["code"] == "no_type"
        assert eventless["code"] == "event_not_defined"

    def test_a_source_that_is_gone(self, run: Run, fill: Fill, lines: Lines, configure: Callable[..., None]) -> None:
        configure("key")
        fill({"type": "track", "userId": "u1"}, source="another")
        (repair,) = lines(run("rejected", "--retry"))
        assert repair["code"] == "unknown_source"
        assert "another" in repair["detail"]

    def test_a_table(self, run: Run, fill: Fill, configure: Callable[..., None]) -> None:
        configure("key")
        fill({"type": "track", "userId": "u1"})
        text = run("rejected", "--retry", "--format", "table").stdout
        assert "refused" in text
        assert "event_not_defined" in text
