import json
import os
import pty
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from patience import PATIENCE
from trackcore_server.cli._output import counted
from trackcore_sqlite import SqliteSink

from trackcore import Collector, InvalidRequest, Origin, Source, WriteKey

Run = Callable[..., Result]
Fill = Callable[..., None]
Lines = Callable[[Result], list[Any]]

NO_EVENT = {"type": "track", "userId": "user-1"}
NO_ID = {"type": "page"}


def test_a_line_has_exactly_its_keys_in_order(run: Run, fill: Fill) -> None:
    fill(NO_EVENT)
    result = run("rejected")
    assert result.exit_code == 0
    assert result.stdout == (
        '{"seq":1,"source":"website","receivedAt":"2026-01-31T12:00:00.000Z","code":"event_not_defined",'
        '"message":"a track message needs \'event\'","path":"event",'
        '"payload":"{\\"type\\": \\"track\\", \\"userId\\": \\"user-1\\"}"}\n'
    )


def test_records_are_chosen(run: Run, fill: Fill, lines: Lines) -> None:
    fill(NO_EVENT, NO_ID)
    fill(NO_EVENT, source="app", received_at=datetime(2026, 1, 31, 13, tzinfo=UTC))

    def seqs(*arguments: str) -> list[int]:
        return [record["seq"] for record in lines(run("rejected", *arguments))]

    assert seqs() == [1, 2, 3]
    assert seqs("--source", "app") == [3]
    assert seqs("--code", "no_user_anon_id") == [2]
    assert seqs("--since", "2026-01-31T12:30:00Z") == [3]
    assert seqs("--limit", "2") == [2, 3]
    assert seqs("--quarantine") == []


def test_a_payload_that_is_not_text_is_in_base64(run: Run, lines: Lines, tmp_path: Path) -> None:
    sink = SqliteSink(tmp_path / "trackcore-data" / "trackcore.db")
    collector = Collector(
        sources=[Source(name="website", write_keys=("key",))],
        sink=sink,
        clock=lambda: datetime(2026, 1, 31, tzinfo=UTC),
        new_message_id=lambda: "m1",
    )
    with pytest.raises(InvalidRequest):
        collector.receive(b'{"userId": "\xff"}', endpoint="track", origin=Origin(header_key=WriteKey("key")))
    sink.close()
    (record,) = lines(run("rejected"))
    assert list(record) == ["seq", "source", "receivedAt", "code", "message", "path", "payload", "encoding"]
    assert record["code"] == "invalid_json"
    assert record["encoding"] == "base64"
    assert b64decode(record["payload"]) == b'{"userId": "\xff"}'


def test_a_table_is_for_reading(run: Run, fill: Fill) -> None:
    fill({**NO_EVENT, "note": "\x9b31m[bold]"})
    head, line = run("rejected", "--format", "table").stdout.splitlines()
    assert head.split()[:3] == ["seq", "received", "(UTC)"]
    assert "event_not_defined" in line
    assert line.isprintable()


class TestQuarantine:
    KEY = 'secret-"key"-of-another'

    def test_write_keys_are_masked(self, run: Run, fill: Fill) -> None:
        fill({**NO_EVENT, "writeKey": "an-item-has-its-own"}, write_key=self.KEY)
        result = run("rejected", "--quarantine")
        record = json.loads(result.stdout)
        assert list(record) == ["seq", "receivedAt", "endpoint", "writeKey", "clientIp", "payload"]
        assert (record["endpoint"], record["writeKey"], record["clientIp"]) == ("batch", "secr…", None)
        payload = json.loads(record["payload"])
        assert payload["writeKey"] == "secr…"
        assert payload["batch"][0] == {**NO_EVENT, "writeKey": "an-i…"}

    def test_they_are_chosen_by_time_and_number(self, run: Run, fill: Fill, lines: Lines) -> None:
        for hour in (10, 11, 12):
            fill(NO_EVENT, write_key=self.KEY, received_at=datetime(2026, 1, 31, hour, tzinfo=UTC))
        since = ("--since", "2026-01-31T10:30:00Z")
        assert [record["seq"] for record in lines(run("rejected", "--quarantine"))] == [1, 2, 3]
        assert [record["seq"] for record in lines(run("rejected", "--quarantine", *since))] == [2, 3]
        assert [record["seq"] for record in lines(run("rejected", "--quarantine", *since, "--limit", "1"))] == [3]

    def test_they_have_no_source_and_no_code(self, run: Run, fill: Fill) -> None:
        fill(NO_EVENT, write_key=self.KEY)
        assert run("rejected", "--quarantine", "--source", "website").exit_code == 2
        assert run("rejected", "--quarantine", "--code", "no_type").exit_code == 2

    def test_a_table(self, run: Run, fill: Fill) -> None:
        fill(NO_EVENT, write_key=self.KEY)
        assert "secr…" in run("rejected", "--quarantine", "--format", "table").stdout


def test_a_terminal_hears_how_many_were_dropped(run: Run, fill: Fill) -> None:
    fill(*[NO_EVENT] * 10, rejected_bytes=500)
    master, slave = pty.openpty()
    command = [sys.executable, "-W", "error", "-m", "trackcore_server.cli", "rejected"]
    process = subprocess.Popen(command, stdout=slave, stderr=subprocess.PIPE)
    os.close(slave)
    with suppress(OSError):
        while os.read(master, 65_536):
            pass
    os.close(master)
    assert process.stderr is not None
    dropped = 10 - len(run("rejected").stdout.splitlines())
    assert dropped > 0
    assert process.stderr.read().decode() == f"{counted(dropped, 'older record')} dropped to make room\n"
    process.stderr.close()
    assert process.wait(PATIENCE) == 0
    assert run("rejected").stderr == ""
