import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from trackcore_sqlite import SqliteSink

from trackcore import Collector, Destination, Endpoint, InvalidRequest, Limits, Origin, Source, WriteKey

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
        text += '[[destinations]]\nname = "Mixpanel"\n[[destinations]]\nname = "Salesforce"\n'
        (folder / "trackcore.toml").write_text(f"{text}[limits]\nmessage_bytes = {message_bytes}\n")

    return configure


def receive(
    tmp_path: Path,
    body: Any,
    message_bytes: int = 32_768,
    endpoint: Endpoint = "batch",
    key: str = "key",
    *,
    origin: Origin | None = None,
) -> None:
    sink = SqliteSink(tmp_path / "trackcore-data" / "trackcore.db")
    collector = Collector(
        sources=[Source(name="website", write_keys=("key", "old-key"))],
        destinations=[Destination(name="Mixpanel"), Destination(name="Salesforce")],
        sink=sink,
        clock=lambda: RECEIVED_AT,
        new_message_id=lambda: "made",
        limits=Limits(message_bytes=message_bytes),
    )
    with suppress(InvalidRequest):
        origin = origin or Origin(header_key=WriteKey(key))
        collector.receive(json.dumps(body).encode(), endpoint=endpoint, origin=origin)
    sink.close()


class TestQuarantine:
    """A quarantined request goes through intake with its original receivedAt, and is marked as repaired."""

    def test_after_the_key_was_added(self, run: Run, fill: Fill, lines: Lines, configure: Callable[..., None]) -> None:
        configure("key")
        fill(TRACK, {**TRACK, "userId": None}, write_key="the-lost-key")
        refused = run("rejected", "--quarantine", "--retry")
        assert refused.exit_code == 1
        assert refused.stderr == "1 still rejected\n"
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

    @pytest.mark.parametrize("place", ["other_header_key", "query_key", "header_key", "body"])
    def test_a_key_beside_those_of_others(
        self, run: Run, lines: Lines, configure: Callable[..., None], tmp_path: Path, place: str
    ) -> None:
        """A staging site is behind Basic authentication, and a page may have an old key in its messages."""
        keys: Any = {} if place == "body" else {"header_key": WriteKey("staging"), place: WriteKey("new")}
        message = {**TRACK, "writeKey": "new"} if place == "body" else TRACK
        body = {"batch": [message], "writeKey": "old"} if place != "header_key" else {"batch": [message]}
        receive(tmp_path, body, origin=Origin(**keys))
        configure("new")
        (repair,) = lines(run("rejected", "--quarantine", "--retry"))
        assert (repair["outcome"], repair["stored"]) == ("repaired", 1)

    def test_one_of_several(self, run: Run, fill: Fill, lines: Lines, configure: Callable[..., None]) -> None:
        configure("key", "the-lost-key")
        for event in ("A", "B", "C"):
            fill({**TRACK, "event": event}, write_key="lost")
        configure("key", "lost")
        result = run("rejected", "--quarantine", "--retry", "--seq", "2")
        assert (result.exit_code, result.stderr) == (0, "1 repaired\n")
        assert [event["message"]["event"] for event in lines(run("events"))] == ["B"]
        assert run("rejected", "--quarantine", "--retry", "--seq", "9").stderr == "nothing to reprocess\n"


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

    def test_a_message_of_a_batch_becomes_what_it_would_have_been(
        self, run: Run, lines: Lines, configure: Callable[..., None], tmp_path: Path
    ) -> None:
        """Repaired, it equals the message of a first-time acceptance except for the warning `repaired`."""
        large = {
            **TRACK,
            "messageId": "m1",
            "text": "x" * 40_000,
            "context": {"own": 1},
            "timestamp": "2026-01-31T11:00Z",
        }
        batch = {
            "batch": [{**large, "messageId": "m0"}, large],
            "context": {"device": {"id": "d"}, "locale": "\ud800"},
            "integrations": {"All": False, "Mixpanel": True},
            "sentAt": "2026-01-31T11:59:00Z",
        }
        found = []
        for limit in (32_768, 65_536):  # the second time in another log, where it is accepted at once
            configure("key", message_bytes=limit)
            receive(tmp_path, batch, message_bytes=limit)
            configure("key", message_bytes=65_536)
            run("rejected", "--retry")
            found.append(lines(run("events")))
            (tmp_path / "trackcore-data" / "trackcore.db").unlink()
        repaired, accepted = found
        assert len(repaired) == len(accepted) == 2
        for one, other in zip(repaired, accepted, strict=True):
            assert one["message"] == other["message"]
            assert one["message"]["context"] == {"device": {"id": "d"}, "locale": "\ufffd", "own": 1}
            assert one["destinations"] == other["destinations"] == ["Mixpanel"]
            codes = [warning["code"] for warning in other["warnings"]]
            assert codes == ["surrogate_replaced"]
            assert [warning["code"] for warning in one["warnings"]] == [*codes, "repaired"]

    def test_what_its_batch_said_is_shown(
        self, run: Run, lines: Lines, configure: Callable[..., None], tmp_path: Path
    ) -> None:
        configure("key")
        receive(tmp_path, {"batch": [{"type": "track", "userId": "u"}], "sentAt": "2026-01-31T11:59:00Z"})
        (record,) = lines(run("rejected"))
        assert record["batch"] == '{"sentAt":"2026-01-31T11:59:00Z"}'

    def test_what_was_too_large_to_be_kept_is_said(
        self, run: Run, lines: Lines, configure: Callable[..., None], tmp_path: Path
    ) -> None:
        configure("key")
        receive(tmp_path, {"batch": [{}] * 1_000, "context": {"text": "x" * 10_000}})
        (repair,) = lines(run("rejected", "--retry", "--seq", "1"))
        assert (repair["outcome"], repair["code"]) == ("refused", "batch_not_kept")
        assert "too large to be kept" in repair["detail"]

    def test_of_which_type_it_is_must_be_known(
        self, run: Run, fill: Fill, lines: Lines, configure: Callable[..., None]
    ) -> None:
        configure("key")
        fill({"userId": "u1"}, {"type": "track", "userId": "u1"})
        untyped, eventless = lines(run("rejected", "--retry"))
        assert untyped["code"] == "no_type"
        assert eventless["code"] == "event_not_defined"

    @pytest.mark.parametrize("body", [{}, {"type": "identify"}, {"batch": 5}])
    def test_a_single_message_is_what_its_path_said(
        self, run: Run, lines: Lines, configure: Callable[..., None], tmp_path: Path, body: Any
    ) -> None:
        """A message posted to the path of a call need not contain its type, and its own `type` is ignored there."""
        configure("key")
        receive(tmp_path, {"userId": "u1", "name": "x" * 40_000, **body}, endpoint="screen")
        configure("key", message_bytes=65_536)
        (repair,) = lines(run("rejected", "--retry"))
        assert repair["outcome"] == "repaired", repair
        (event,) = lines(run("events"))
        assert event["message"]["type"] == "screen"

    def test_what_is_no_json_stays_so(
        self, run: Run, lines: Lines, configure: Callable[..., None], tmp_path: Path
    ) -> None:
        configure("key")
        receive(tmp_path, float("nan"), endpoint="track")
        (repair,) = lines(run("rejected", "--retry"))
        assert repair["code"] == "invalid_json"

    def test_a_key_that_is_not_the_first_of_its_source(
        self, run: Run, lines: Lines, configure: Callable[..., None], tmp_path: Path
    ) -> None:
        """It is what it would have been: with one key in the request there is no other that it could differ from."""
        configure("key", "old-key")
        large = {**TRACK, "text": "x" * 40_000, "writeKey": "old-key"}
        receive(tmp_path, large, endpoint="track", key="old-key")
        receive(tmp_path, {"batch": [large]}, key="old-key")
        configure("key", "old-key", message_bytes=65_536)
        assert run("rejected", "--retry").exit_code == 0
        for event in lines(run("events")):
            assert [warning["code"] for warning in event["warnings"]] == ["repaired"]

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
        assert "a track message needs 'event'" in text, "it has the room that the others do not need"
