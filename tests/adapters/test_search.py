"""A search means the same in every part of the log."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from trackcore_sqlite import SqliteBrowser, SqliteSink

from trackcore import (
    PARTS,
    Endpoint,
    Envelope,
    MessageWarning,
    QuarantinedRequest,
    RejectedRecord,
    Search,
    WarningCode,
    WriteKey,
)

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
NUMBER = MessageWarning(code=WarningCode.ID_FROM_NUMBER, message="m", path="userId")
PLAN = MessageWarning(code=WarningCode.PLAN_WRONG_TYPE, message="m", path="properties.price")
DEEP = b'{"a":' * 3_000 + b"1" + b"}" * 3_000


def envelope(message: dict[str, Any], *warnings: MessageWarning, destinations: tuple[str, ...] = ()) -> Envelope:
    return Envelope(
        source="website",
        message_id=message["messageId"],
        call=message["type"],
        user_id=message.get("userId"),
        anonymous_id=message.get("anonymousId"),
        received_at=START,
        destinations=destinations,
        warnings=warnings,
        payload=json.dumps(message, ensure_ascii=False).encode(),
    )


def rejected(payload: bytes, code: str = "no_type", endpoint: Endpoint = "batch") -> RejectedRecord:
    return RejectedRecord(
        source="website", received_at=START, code=code, message="m", path="", payload=payload, endpoint=endpoint
    )


def quarantined(payload: bytes) -> QuarantinedRequest:
    return QuarantinedRequest(
        received_at=START + timedelta(minutes=1),
        endpoint="batch",
        write_key=WriteKey("x"),
        client_ip=None,
        client_side=False,
        payload=payload,
    )


BOUGHT = {
    "type": "track",
    "event": "Bought",
    "userId": "ann",
    "messageId": "m1",
    "properties": {"price": 12, "big": True, "none": None, "Größe": "M", "list": [{"sku": "a"}], "a.b": 1},
}
HOME = {"type": "page", "name": "Home", "anonymousId": "joanna", "messageId": "m2"}


@pytest.fixture(name="browser", scope="module")
def _browser(tmp_path_factory: pytest.TempPathFactory) -> SqliteBrowser:
    path = tmp_path_factory.mktemp("log") / "log.db"
    sink = SqliteSink(path)
    sink.store([envelope(BOUGHT, PLAN, destinations=("Mixpanel",)), envelope(HOME, NUMBER)])
    sink.store([envelope(BOUGHT)])
    bare = json.dumps({**BOUGHT, "userId": 42}).encode()
    sink.store(rejected=[rejected(bare), rejected(b'{"userId":"joanna"', "invalid_json"), rejected(DEEP, "too_deep")])
    sink.store(rejected=[rejected(b"{}", "plan_blocked", "page"), rejected(b"\xff\x00ANN", "invalid_json")])
    batch = {"batch": [HOME, BOUGHT, "text", 5, None]}
    sink.store(quarantined=[quarantined(json.dumps(batch).encode()), quarantined(b'{"batch":"x"}'), quarantined(b"[]")])
    sink.close()
    return SqliteBrowser(path)


def found(browser: SqliteBrowser, **wanted: Any) -> str:
    search = Search(**wanted)
    rows = {part: browser.listed(part, search, after=0, to=1_000).rows for part in PARTS}
    return " ".join(f"{part[0]}{seq}" for part in PARTS for seq in sorted(row.seq for row in rows[part]))


class TestConditions:
    @pytest.mark.parametrize(
        ("wanted", "which"),
        [
            ({"user": "ann"}, "m1 d1 q1"),
            ({"user": "joanna"}, "m2 q1"),
            ({"user": "42"}, "r1"),
            ({"user": "4"}, ""),
            ({"event": "Bought"}, "m1 d1 r1 q1"),
            ({"event": "bought"}, ""),
            ({"event": "Home"}, "m2 q1"),
            ({"call": "page"}, "m2 r4 q1"),
            ({"path": "properties.price"}, "m1 d1 r1 q1"),
            ({"path": "properties.price", "value": "12"}, "m1 d1 r1 q1"),
            ({"path": "properties.price", "value": "1"}, ""),
            ({"path": "properties.big", "value": "true"}, "m1 d1 r1 q1"),
            ({"path": "properties.big", "value": "1"}, ""),
            ({"path": "properties.none", "value": "null"}, "m1 d1 r1 q1"),
            ({"path": "properties.none"}, "m1 d1 r1 q1"),
            ({"path": "properties.Größe", "value": "M"}, "m1 d1"),  # the others have it as an escape
            ({"path": "properties.list[0].sku", "value": "a"}, "m1 d1 r1 q1"),
            ({"path": "properties.nothing"}, ""),
            ({"path": 'properties."'}, ""),
            ({"path": "[0]"}, ""),
            ({"text": "BOUGHT"}, "m1 d1 r1 q1"),
            ({"text": "GRÖSSE"}, ""),
            ({"text": "gRöße"}, "m1 d1 r1 q1"),
            ({"text": 'ann"}'}, ""),
            ({"text": "ann"}, "m1 m2 d1 r2 r5 q1"),
            ({"text": "öße[]^*?"}, ""),
            ({"concern": "warning"}, "m1 m2"),
            ({"concern": "violation"}, "m1 r4"),
            ({"destination": "Mixpanel"}, "m1"),
            ({"destination": "Mix"}, ""),
            ({"destination": "Mixpanel", "delivery": "not_selected"}, "m2"),
            ({"destination": "Mixpanel", "delivery": "dead_letter", "seqs": (2, 9)}, "m2"),
            ({"until": START + timedelta(seconds=1)}, "m1 m2 d1 r1 r2 r3 r4 r5"),
            ({"since": START + timedelta(seconds=1)}, "q1 q2 q3"),
            ({"event": "Bought", "user": "ann", "source": "website"}, "m1 d1"),
        ],
    )
    def test_each(self, browser: SqliteBrowser, wanted: dict[str, Any], which: str) -> None:
        assert found(browser, **wanted) == which

    @pytest.mark.parametrize("sign", "[]^*?-\\%_'\"")
    def test_a_sign_of_a_pattern_is_itself(self, tmp_path: Path, sign: str) -> None:
        """A text is searched for as it is, whatever it means in a pattern."""
        sink = SqliteSink(tmp_path / "log.db")
        sink.store(rejected=[rejected(f"x{sign}ö".encode()), rejected("xyö".encode())])
        sink.close()
        browser = SqliteBrowser(tmp_path / "log.db")
        for text in (f"X{sign}Ö", f"X{sign}"):
            rows = browser.listed("rejected", Search(text=text), after=0, to=9).rows
            assert [row.seq for row in rows] == [1]


class TestTimes:
    def test_the_numbers_of_times_in_each_part(self, browser: SqliteBrowser) -> None:
        times = [START, START + timedelta(seconds=1), START + timedelta(hours=1)]
        assert {part: browser.seqs_at(times, part=part) for part in PARTS} == {
            "messages": [0, 2, 2],
            "duplicates": [0, 1, 1],
            "rejected": [0, 5, 5],
            "quarantine": [0, 0, 3],
        }
