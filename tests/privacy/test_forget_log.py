"""Forgetting persons in the embedded log: no byte of them is left, and nothing else changes."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trackcore_sqlite import CONSISTENT, Forgotten, SqliteLog, SqliteSink, check_log, clean, forget

from trackcore import PARTS, Collector, InvalidRequest, Source
from trackcore.privacy import Subject

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
ANN = "ann-4d1c8f22"
EVE = "eve-99"
SUBJECT = Subject("user", ANN)


def collector_at(path: Path) -> Collector:
    numbers = iter(range(1_000_000))
    return Collector(
        sources=[Source(name="website", write_keys=["key"]), Source(name="app", write_keys=["app-key"])],
        sink=SqliteSink(path, rejected_bytes=20_000),
        clock=lambda: AT,
        new_message_id=lambda: f"made-{next(numbers)}",
    )


def send(collector: Collector, *messages: Any, key: str = "key", text: bytes | None = None) -> None:
    body = json.dumps({"batch": list(messages), "writeKey": key}).encode() if text is None else text
    try:
        collector.receive(body)
    except InvalidRequest:
        return


def fill(collector: Collector, person: str, *, key: str = "key", first: int = 0) -> None:
    """Send messages of a person to each part of the log."""
    track = {"type": "track", "userId": person, "event": "E", "properties": {"mine": person * 20}}
    for number in range(first, first + 5):
        message = {**track, "messageId": f"{key}-{person[:3]}-{number}"}
        send(collector, message, message, key=key)
    send(collector, {**track, "event": None}, {"type": "alias", "userId": "new", "previousId": person}, key=key)
    send(collector, track, key="unknown")
    send(collector, text=b'{"batch":[{"userId":"%b"}],"writeKey":"key"' % person.encode())


def rows(path: Path, *, without: str | None = None) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of the parts, except those that mention a person."""
    with closing(sqlite3.connect(path)) as connection:
        found = {part: connection.execute(f"SELECT * FROM {part} ORDER BY seq").fetchall() for part in PARTS}  # noqa: S608
    return {part: [row for row in each if without is None or without not in repr(row)] for part, each in found.items()}


def raw_bytes(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def forget_all(path: Path, *subjects: Subject, **settings_: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in PARTS:
        steps = list(forget(path, part, Forgotten(subjects=subjects, **settings_)))
        counts[part] = sum(step.changed for step in steps)
    clean(path, subjects)
    return counts


class TestForget:
    def test_no_byte_is_left_and_nothing_else_changes(self, tmp_path: Path) -> None:
        path = tmp_path / "trackcore.db"
        collector = collector_at(path)
        for number in range(30):  # some records of the person are dropped to make room, which does not overwrite them
            fill(collector, EVE, first=5 * number)
            fill(collector, ANN, first=5 * number)
        others = rows(path, without=ANN)
        assert ANN.encode() in raw_bytes(tmp_path)
        counts = forget_all(path, SUBJECT)
        assert all(counts.values())
        assert ANN.encode() not in raw_bytes(tmp_path)
        assert rows(path) == others
        assert check_log(path).inconsistency == CONSISTENT
        assert check_log(path).faults == ()

    def test_the_log_is_written_on(self, tmp_path: Path) -> None:
        path = tmp_path / "trackcore.db"
        collector = collector_at(path)
        fill(collector, ANN)
        end = SqliteLog(path).totals().messages
        forget_all(path, SUBJECT)
        message = {"type": "page", "userId": EVE, "messageId": "m"}
        for _ in range(2):  # a log whose file was rewritten is opened again
            try:
                send(collector, message)
            except Exception:  # noqa: BLE001, S112 - the answer is 503, and the sender tries again
                continue
        (stored,) = SqliteLog(path).messages()
        assert stored.seq == end + 1
        assert check_log(path).inconsistency == CONSISTENT

    def test_one_source(self, tmp_path: Path) -> None:
        path = tmp_path / "trackcore.db"
        collector = collector_at(path)
        fill(collector, ANN)
        fill(collector, ANN, key="app-key")
        app = [row for row in rows(path)["messages"] if "app-key" in repr(row)]
        forget_all(path, SUBJECT, source="website")
        assert [row for row in rows(path)["messages"] if "app-key" in repr(row)] == app
        assert {stored.source for stored in SqliteLog(path).messages()} == {"app"}

    def test_a_dry_run_counts_and_changes_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "trackcore.db"
        fill(collector_at(path), ANN)
        before = rows(path)
        counted = {
            part: sum(step.changed for step in forget(path, part, Forgotten(subjects=[SUBJECT]), dry_run=True))
            for part in PARTS
        }
        assert rows(path) == before
        assert forget_all(path, SUBJECT) == counted

    def test_events_are_kept_under_a_pseudonym(self, tmp_path: Path) -> None:
        path = tmp_path / "trackcore.db"
        collector = collector_at(path)
        message = {"type": "identify", "userId": ANN, "traits": {"a": 1}, "context": {"ip": "1.2.3.4", "locale": "de"}}
        send(collector, {**message, "messageId": "m1", "properties": {"owner": ANN}})
        name = SUBJECT.pseudonym(b"key")
        before = rows(path)
        forget_all(path, SUBJECT, pseudonyms={SUBJECT: name})
        (stored,) = SqliteLog(path).messages()
        assert stored.message == {
            "type": "identify",
            "userId": name,
            "messageId": "m1",
            "properties": {"owner": name},
            "context": {"locale": "de"},
            "timestamp": stored.message["timestamp"],
            "receivedAt": stored.message["receivedAt"],
        }
        assert len(before["messages"]) == 1
        assert ANN.encode() not in raw_bytes(tmp_path)
        assert check_log(path).inconsistency == CONSISTENT

    def test_the_batch_of_others_stays(self, tmp_path: Path) -> None:
        """Of a rejected body, or a quarantined one, only the messages of the person go."""
        path = tmp_path / "trackcore.db"
        collector = collector_at(path)
        send(collector, {"type": "page", "userId": EVE}, {"type": "page", "userId": ANN}, key="unknown")
        forget_all(path, SUBJECT)
        (request,) = SqliteLog(path).quarantined()
        assert json.loads(request.payload)["batch"] == [{"type": "page", "userId": EVE}]
        assert check_log(path).inconsistency == CONSISTENT

    @pytest.mark.parametrize("written", [b'"\\u00fcnn-7f3a"', '"ünn-7f3a"'.encode()])
    def test_an_id_that_is_escaped(self, tmp_path: Path, written: bytes) -> None:
        path = tmp_path / "trackcore.db"
        collector = collector_at(path)
        send(collector, text=b'{"batch":[{"userId":%b}],"writeKey":"key"}' % written)
        send(collector, text=b'{"batch":[{"userId":%b}],"writeKey":"key"' % written)
        assert len(list(SqliteLog(path).rejected())) == 2
        forget_all(path, Subject("user", "ünn-7f3a"))
        assert list(SqliteLog(path).rejected()) == []

    @settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_no_message_of_others_changes(self, tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
        """Over whole logs of messages of several persons, in any mixture and number."""
        path = tmp_path_factory.mktemp("log") / "trackcore.db"
        collector = collector_at(path)
        persons = st.sampled_from([ANN, EVE, f"{ANN}x", f"x{ANN}", ""])
        message = st.fixed_dictionaries(
            {
                "type": st.sampled_from(["track", "alias"]),
                "userId": persons,
                "messageId": st.text("ab", max_size=2),
            },
            optional={"anonymousId": persons, "previousId": persons, "event": st.just("E")},
        )
        send(collector, {"type": "page", "userId": EVE})
        for batch in data.draw(st.lists(st.lists(message, max_size=6), min_size=1, max_size=6)):
            send(collector, *batch, key=data.draw(st.sampled_from(["key", "app-key"])))

        def is_theirs(row: tuple[Any, ...]) -> bool:
            payload = json.loads(next(value for value in row if isinstance(value, bytes)))
            is_alias = payload["type"] == "alias"
            return ANN in (payload.get("userId"), is_alias and payload.get("previousId"))

        expected = {part: [row for row in each if not is_theirs(row)] for part, each in rows(path).items()}
        forget_all(path, SUBJECT)
        assert rows(path) == expected
        assert check_log(path).inconsistency == CONSISTENT
