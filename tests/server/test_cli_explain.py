import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from trackcore_server import create_app, load_configuration

from trackcore import Destination

Run = Callable[..., Result]
Fill = Callable[..., None]
Lines = Callable[[Result], list[Any]]

TRACK = {"type": "track", "event": "Bought", "userId": 7, "messageId": "m1"}
NO_EVENT = {"type": "track", "userId": "user-1", "writeKey": "a-key-that-is-secret"}
CONFIGURATION = """
[[sources]]
name = "website"
write_keys = ["key"]
[[destinations]]
name = "Mixpanel"
[limits]
message_bytes = 1000
"""


@pytest.fixture(autouse=True)
def _configured(tmp_path: Path) -> None:
    folder = tmp_path / "trackcore-data"
    folder.mkdir()
    (folder / "trackcore.toml").write_text(CONFIGURATION)


class TestStored:
    @pytest.mark.parametrize("what", ["1", "m1"])
    def test_a_message_is_found_by_number_and_by_id(self, run: Run, fill: Fill, lines: Lines, what: str) -> None:
        fill(TRACK, {**TRACK, "messageId": "m2"}, destinations=(Destination(name="Mixpanel"),))
        (explanation,) = lines(run("explain", what))
        assert (explanation["part"], explanation["seq"], explanation["outcome"]) == ("messages", 1, "accepted")
        assert explanation["ids"] == {"messageId": "m1", "userId": "7"}
        assert explanation["coerced"] == ["userId"]
        assert explanation["time"]["rule"] == "received"
        assert [warning["code"] for warning in explanation["warnings"]] == ["id_from_number"]
        assert explanation["warnings"][0]["remedy"] == "Convert ids to strings in the client."
        assert [(each["destination"], each["because"]) for each in explanation["destinations"]] == [
            ("Mixpanel", "by_default")
        ]
        assert explanation["message"]["event"] == "Bought"

    def test_an_id_that_is_a_number_is_found_where_no_message_has_that_number(self, run: Run, fill: Fill) -> None:
        fill({**TRACK, "messageId": "1234"})
        assert json.loads(run("explain", "1234").stdout)["seq"] == 1

    def test_the_same_id_of_two_sources_are_two_messages(self, run: Run, fill: Fill, lines: Lines) -> None:
        fill(TRACK)
        fill(TRACK, source="app")
        assert [explanation["source"]["name"] for explanation in lines(run("explain", "m1"))] == ["website", "app"]

    def test_a_rejected_message(self, run: Run, fill: Fill, lines: Lines) -> None:
        fill(NO_EVENT)
        (explanation,) = lines(run("explain", "--rejected", "1"))
        assert (explanation["part"], explanation["seq"], explanation["outcome"]) == ("rejected", 1, "rejected")
        assert (explanation["code"], explanation["path"], explanation["found"]) == (
            "event_not_defined",
            "event",
            "nothing",
        )
        assert explanation["meaning"].startswith("A track message does not name the action")
        assert "secret" not in explanation["payload"]

    def test_a_fault_of_what_the_batch_said_for_all(self, run: Run, lines: Lines, tmp_path: Path) -> None:
        body = {"batch": [TRACK], "context": "phone", "writeKey": "key"}
        app = create_app(load_configuration(tmp_path / "trackcore-data" / "trackcore.toml"))
        app.collector.receive(json.dumps(body).encode())
        (explanation,) = lines(run("explain", "--rejected", "1"))
        assert (explanation["path"], explanation["found"]) == ("context", 'a string: "phone"')
        assert '{"context":"phone"}' in run("explain", "--rejected", "1", "--format", "text").stdout

    def test_a_long_text_is_cut_and_that_is_said(self, run: Run, tmp_path: Path) -> None:
        body = {"batch": [NO_EVENT], "context": {"text": "x" * 4_000}, "writeKey": "key"}
        app = create_app(load_configuration(tmp_path / "trackcore-data" / "trackcore.toml"))
        app.collector.receive(json.dumps(body).encode())
        text = run("explain", "--rejected", "1", "--format", "text").stdout
        assert "… and 2,024 more characters" in text

    def test_a_quarantined_request(self, run: Run, fill: Fill, lines: Lines) -> None:
        fill(TRACK, write_key="a-key-that-is-secret")
        result = run("explain", "--quarantine", "1")
        (explanation,) = lines(result)
        assert (explanation["outcome"], explanation["code"], explanation["writeKey"]) == (
            "quarantined",
            "unknown_source",
            "a-ke…",
        )
        assert "secret" not in result.stdout

    def test_a_duplicate(self, run: Run, fill: Fill, lines: Lines) -> None:
        fill(TRACK)
        fill({**TRACK, "event": "Again"})
        (explanation,) = lines(run("explain", "--duplicate", "1"))
        assert (explanation["part"], explanation["seq"], explanation["outcome"]) == ("duplicates", 1, "duplicate")
        assert explanation["duplicateOf"] == 1
        assert explanation["message"]["event"] == "Again"
        text = run("explain", "--duplicate", "1", "--format", "text").stdout
        assert text.startswith("duplicate 1: duplicate\n")
        assert "(message 1); it is stored once" in text

    def test_how_the_source_was_found(self, run: Run, fill: Fill, lines: Lines) -> None:
        fill(TRACK)
        (explanation,) = lines(run("explain", "1"))
        assert explanation["source"] == {
            "name": "website",
            "because": "the `writeKey` of the batch belongs to it",
            "foundBy": "body",
        }

    def test_how_often_its_client_had_tried(self, run: Run, fill: Fill, lines: Lines) -> None:
        fill(TRACK, retry_count=2)
        fill(TRACK, retry_count=3)
        for arguments, before, attempt in ((["1"], 2, "attempt 3"), (["--duplicate", "1"], 3, "attempt 4")):
            assert lines(run("explain", *arguments))[0]["retryCount"] == before
            assert attempt in run("explain", *arguments, "--format", "text").stdout

    def test_a_first_attempt_is_not_mentioned(self, run: Run, fill: Fill, lines: Lines) -> None:
        fill(TRACK)
        assert lines(run("explain", "1"))[0]["retryCount"] == 0
        assert "attempt" not in run("explain", "1", "--format", "text").stdout

    def test_what_is_not_there_is_reported(self, run: Run, fill: Fill) -> None:
        fill(TRACK)
        for arguments in (("2",), ("m2",), ("--rejected", "1"), ("--quarantine", "1"), ("9" * 30,)):
            result = run("explain", *arguments)
            assert result.exit_code == 2
            assert ": no " in result.stderr
        assert "no stored message with the number or the messageId 'm2'" in run("explain", "m2").stderr

    def test_a_log_that_is_not_there_is_reported(self, run: Run) -> None:
        result = run("explain", "1")
        assert result.exit_code == 2
        assert "there is no log here" in result.stderr


class TestUnsent:
    """A message that was never sent is judged by the pipeline of the server, and not stored."""

    def test_a_batch(self, run: Run, lines: Lines) -> None:
        body = {"batch": [TRACK, NO_EVENT], "writeKey": "key"}
        result = run("explain", "-", stdin=json.dumps(body).encode())
        good, bad = lines(result)
        assert result.exit_code == 1
        assert (good["index"], good["outcome"], good["source"]["name"]) == (0, "accepted", "website")
        assert (bad["index"], bad["outcome"], bad["code"]) == (1, "rejected", "event_not_defined")

    def test_a_duplicate_names_the_other(self, run: Run, fill: Fill, lines: Lines) -> None:
        fill(TRACK)
        result = run("explain", "-", stdin=json.dumps(TRACK).encode())
        (explanation,) = lines(result)
        assert result.exit_code == 0
        assert (explanation["outcome"], explanation["duplicateOf"]) == ("duplicate", 1)
        assert len(lines(run("events"))) == 1

    def test_limits_of_the_configuration_hold(self, run: Run, lines: Lines) -> None:
        body = {**TRACK, "text": "x" * 1_000}
        (explanation,) = lines(run("explain", "--type", "track", "-", stdin=json.dumps(body).encode()))
        assert (explanation["code"], explanation["limit"], explanation["unit"]) == ("message_too_large", 1_000, "bytes")
        assert explanation["actual"] == len(json.dumps(body))

    def test_what_is_no_json(self, run: Run, lines: Lines) -> None:
        (explanation,) = lines(run("explain", "-", stdin=b'{"a": NaN}'))
        assert (explanation["code"], explanation["excerpt"]) == ("invalid_json", ['{"a": ', "NaN}"])

    def test_usage(self, run: Run) -> None:
        assert run("explain", "-", stdin=b"").exit_code == 2
        assert run("explain", "--rejected", "-", stdin=b"{}").exit_code == 2
        assert run("explain", "--type", "track", "1").exit_code == 2
        result = run("explain", "--source", "nobody", "-", stdin=b"{}")
        assert result.exit_code == 2
        assert "website" in result.stderr


class TestText:
    def test_an_explanation_for_reading(self, run: Run, fill: Fill) -> None:
        fill({**TRACK, "timestamp": "2026-01-31T11:00:00Z", "sentAt": "2026-01-31T12:00:03Z"})
        text = run("explain", "--format", "text", "1").stdout
        assert text.startswith("message 1: accepted\nsource        website: ")
        assert "clock skew         +3.000 s (sentAt - receivedAt)" in text
        assert "userId 7 (came as a number)" in text
        assert '"event": "Bought"' in text

    def test_every_kind_of_explanation(self, run: Run, fill: Fill) -> None:
        fill(NO_EVENT)
        fill(TRACK, write_key="nobody's")
        assert "path          event" in run("explain", "--format", "text", "--rejected", "1").stdout
        assert "endpoint      batch" in run("explain", "--format", "text", "--quarantine", "1").stdout
        assert "byte 6        {" in run("explain", "--format", "text", "-", stdin=b'{"a": NaN}').stdout

    def test_nothing_of_a_message_acts_on_the_terminal(self, run: Run, fill: Fill) -> None:
        fill({**TRACK, "event": "\x1b[31m[bold]\u202e", "messageId": "\x07", "integrations": {"\x9b": 5}})
        text = run("explain", "--format", "text", "1").stdout
        assert all(line.isprintable() for line in text.splitlines())
        assert "[bold]" in text


class TestStats:
    NOW = datetime.now(UTC)

    def test_counts(self, run: Run, fill: Fill, lines: Lines) -> None:
        fill({**TRACK, "messageId": "old"}, source="old")
        sent = {"timestamp": self.NOW.isoformat(), "sentAt": self.NOW.isoformat()}
        fill(TRACK, {**TRACK, "messageId": "m2", **sent}, NO_EVENT, received_at=self.NOW)
        fill({"type": "page", "userId": "u"}, source="app", received_at=self.NOW)
        fill(TRACK, write_key="nobody's", received_at=self.NOW)
        (found,) = lines(run("stats", "--since", "1h"))
        counted = [(group["source"], group["type"], group["count"]) for group in found["groups"]]
        assert ("app", "page", 1) in counted
        assert ("website", "track", 2) in counted
        assert found["rejected"] == {"event_not_defined": 1, "unknown_source": 1}
        assert found["warnings"]["id_from_number"] == 2
        assert found["clockSkew"]["count"] == 1
        assert abs(found["clockSkew"]["median"]) < 0.01
        assert sum(found["rate"]["counts"]) == found["messages"]
        assert found["size"]["most"] == max(group["largest"] for group in found["groups"])

    def test_retries(self, run: Run, fill: Fill, lines: Lines) -> None:
        fill({**TRACK, "messageId": "m1"}, received_at=self.NOW)
        fill({**TRACK, "messageId": "m2"}, {**TRACK, "messageId": "m3"}, received_at=self.NOW, retry_count=2)
        (found,) = lines(run("stats", "--since", "1h"))
        assert [(group["count"], group["retried"]) for group in found["groups"]] == [(3, 2)]
        table = run("stats", "--since", "1h", "--format", "table").stdout
        assert "retried" in table

    def test_a_table(self, run: Run, fill: Fill) -> None:
        fill(*[{**TRACK, "messageId": f"m{number}"} for number in range(50)], NO_EVENT, received_at=self.NOW)
        text = run("stats", "--format", "table").stdout
        assert "website  track" in text
        assert "event_not_defined      1" in text
        assert "█" in text

    def test_nothing_at_all(self, run: Run, fill: Fill, lines: Lines) -> None:
        fill(TRACK)
        (found,) = lines(run("stats", "--since", "1h"))
        assert (found["messages"], found["groups"], found["size"], found["clockSkew"]) == (0, [], None, None)
        table = run("stats", "--since", "1h", "--format", "table").stdout
        assert table.rstrip().endswith(": 0 messages")

    def test_a_wrong_time(self, run: Run) -> None:
        assert run("stats", "--since", "yesterday").exit_code == 2
        result = run("stats", "--since", "9000-01-01T00:00Z")
        assert result.exit_code == 2
        assert "9000-01-01T00:00:00.000Z is in the future" in result.stderr

    def test_the_width_of_a_bar_is_said_in_a_unit_that_suits_it(self, run: Run, fill: Fill) -> None:
        fill(TRACK, received_at=datetime.now(UTC))
        for since, width in (("48s", "1 s"), ("1d", "30 min"), ("90d", "45 h")):
            assert f"each bar {width}, maximum" in run("stats", "--since", since, "--format", "table").stdout
