"""The app and its log against a model: requests of every kind, in any order, with restarts in between.

The model predicts the response to each request, and the contents of the log afterwards: which messages, in which
order and under which ids; which rejections with which codes; which requests in quarantine.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import attrs
from adapter_helpers import Answer, Server, basic, serve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from strategies import CALLS, contexts, integrations, json_objects
from trackcore_sqlite import SqliteLog, SqliteSink

from trackcore import Call, JSONObject
from trackcore.text.blanks import is_blank

KEYS = {"abc123": "website", "second": "website", "app1": "app", "strict1": "ci"}
"""Each write key and its source; `strict1` belongs to a strict one."""

IDS = st.sampled_from(["m1", "m2", "m3", "x" * 100]) | st.none() | st.just("")

GOOD = st.fixed_dictionaries(
    {
        "type": st.sampled_from(CALLS),
        "userId": st.text(min_size=1, max_size=4).filter(lambda text: not is_blank(text)) | st.integers(),
        "messageId": IDS,
        "event": st.just("E"),
        "groupId": st.just("g"),
        "previousId": st.just("p"),
    },
    optional={"context": contexts(), "integrations": integrations(), "traits": json_objects()},
)
DEEP: Any = {}
for _ in range(70):
    DEEP = {"a": DEEP}
BAD_ITEMS: tuple[tuple[Any, str], ...] = (
    ({}, "no_type"),
    (5, "message_not_object"),
    (None, "message_not_object"),
    ({"type": "Track", "userId": "u"}, "unknown_type"),
    ({"type": "track", "event": "E"}, "no_user_anon_id"),
    ({"type": "track", "userId": "u"}, "event_not_defined"),
    ({"type": "track", "userId": "u", "event": 5}, "event_not_string"),
    ({"type": "page", "userId": True}, "id_not_string"),
    ({"type": "page", "userId": "u", "name": []}, "name_not_string"),
    ({"type": "page", "userId": "u", "properties": 0}, "properties_not_object"),
    ({"type": "page", "userId": "u", "messageId": "x" * 101}, "message_id_too_long"),
    ({"type": "page", "userId": "u", "properties": {"x": "y" * 33_000}}, "message_too_large"),
    ({"type": "page", "userId": "u", "properties": DEEP}, "too_deep"),
    ({"type": "group", "userId": "u"}, "no_group_id"),
    ({"type": "alias", "userId": "u"}, "no_previous_id"),
)
BAD = st.integers(0, len(BAD_ITEMS) - 1).map(lambda number: BAD_ITEMS[number])
ITEMS = st.lists(GOOD.map(lambda item: (item, None)) | BAD, max_size=5)
BROKEN_BODIES: tuple[tuple[bytes, str], ...] = (
    (b"", "invalid_json"),
    (b'{"batch":[', "invalid_json"),
    (b'{"batch":[NaN]}', "invalid_json"),
    (b'{"batch":[]}\xff', "invalid_json"),
    (b"[]", "body_not_object"),
    (b"{}", "batch_not_array"),
    (b'{"batch":{}}', "batch_not_array"),
    (b'{"batch":[]}' + b" " * 600_000, "body_too_large"),
)
BROKEN = st.integers(0, len(BROKEN_BODIES) - 1).map(lambda number: BROKEN_BODIES[number])


@attrs.frozen
class Stored:
    """A stored message in the model."""

    source: str
    message_id: str
    call: str
    user_id: str


class AppAndLog(RuleBasedStateMachine):
    """The app on a real log."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "trackcore.db"
        self.ids = count(1)
        self.stored: list[Stored] = []
        self.seen: set[tuple[str, str]] = set()
        self.rejected: list[tuple[str, str]] = []
        self.quarantined: list[bytes] = []
        self.sent: list[tuple[str, list[Any]]] = []

    @initialize()
    def start(self) -> None:
        self.server = self._start()

    def _start(self) -> Server:
        server = serve(SqliteSink(self.path)).with_collector(new_message_id=lambda: f"server-{next(self.ids)}")
        self.next_id = getattr(self, "next_id", 1)
        return server

    def teardown(self) -> None:
        if hasattr(self, "server"):
            assert isinstance(self.server.sink, SqliteSink)
            self.server.sink.close()
        shutil.rmtree(self.folder)

    # The model

    def expect(self, source: str, item: JSONObject, call: str | None = None) -> None:
        """Expect a good message to be stored, unless its source has sent its id before."""
        message_id = item.get("messageId") or self.new_id()
        if (source, message_id) not in self.seen:
            self.seen.add((source, message_id))
            self.stored.append(Stored(source, message_id, call or item["type"], str(item["userId"])))

    def new_id(self) -> str:
        self.next_id += 1
        return f"server-{self.next_id - 1}"

    def expect_batch(self, source: str, items: list[Any]) -> list[tuple[int, str]]:
        """Apply a batch to the model; return the place and the code of each message that must be rejected."""
        rejections = [(index, code) for index, (_, code) in enumerate(items) if code is not None]
        self.rejected.extend((source, code) for _, code in rejections)
        for item, code in items:
            if code is None:
                self.expect(source, item)
        return rejections

    # Actions of clients

    @rule(key=st.sampled_from(sorted(KEYS)), items=ITEMS, place=st.sampled_from(["header", "body"]), shared=contexts())
    def send_batch(self, key: str, items: list[Any], place: str, shared: JSONObject) -> None:
        self.sent.append((key, items))
        body: JSONObject = {"batch": [item for item, _ in items], "context": shared}
        if place == "body":
            body["writeKey"] = key
        answer = self.server.post("/v1/batch", body, headers={"Authorization": basic(key)} if place == "header" else {})
        self.check_batch(answer, key, items)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        key, items = data.draw(st.sampled_from(self.sent))
        body = {"batch": [item for item, _ in items], "writeKey": key}
        self.check_batch(self.server.post("/v1/b", body, headers={"X-Retry-Count": "1"}), key, items)

    def check_batch(self, answer: Answer, key: str, items: list[Any]) -> None:
        rejections = self.expect_batch(KEYS[key], items)
        if not rejections:
            assert (answer.status, answer.json) == (200, {"success": True})
            return
        assert answer.status == (400 if key == "strict1" else 200)
        assert answer.json["accepted"] == len(items) - len(rejections)
        assert [(rejection["index"], rejection["code"]) for rejection in answer.json["rejected"]] == rejections

    @rule(key=st.sampled_from(sorted(KEYS)), item=GOOD, call=st.sampled_from(CALLS))
    def send_one(self, key: str, item: JSONObject, call: Call) -> None:
        answer = self.server.post(f"/v1/{call}/", item, headers={"Authorization": basic(key)})
        assert (answer.status, answer.json) == (200, {"success": True})
        self.expect(KEYS[key], item, call)

    @rule(item=GOOD, key=st.sampled_from(["", "nobody's", "ABC123", "abc123 4"]))
    def send_with_an_unknown_key(self, item: JSONObject, key: str) -> None:
        body = json.dumps({**item, "writeKey": key}).encode()
        answer = self.server.post("/v1/track", body, headers={})
        assert (answer.status, answer.json) == (200, {"success": True})
        self.quarantined.append(body)

    @rule(broken=BROKEN, key=st.sampled_from(sorted(KEYS)))
    def send_what_is_of_no_use(self, broken: tuple[bytes, str], key: str) -> None:
        body, code = broken
        answer = self.server.post("/v1/batch", body, headers={"Authorization": basic(key)})
        assert (answer.status, answer.json["code"]) == (400, code)
        self.rejected.append((KEYS[key], code))

    @rule(broken=BROKEN)
    def send_what_is_of_no_use_and_nobodys(self, broken: tuple[bytes, str]) -> None:
        answer = self.server.post("/v1/batch", broken[0], headers={})
        assert (answer.status, answer.json["code"]) == (400, broken[1])

    @rule(user=st.sampled_from(["u", ""]), event=st.sampled_from(["E", ""]))
    def load_a_pixel(self, user: str, event: str) -> None:
        answer = self.server.get("/v1/pixel/track", f"writeKey=app1&userId={user}&event={event}")
        assert (answer.status, answer.headers["content-type"]) == (200, "image/gif")
        if user and event:
            self.expect("app", {"userId": user}, "track")
        else:
            self.rejected.append(("app", "event_not_defined" if user else "no_user_anon_id"))

    @rule(path=st.sampled_from(["/v1/m", "/v1/nothing", "/health"]), body=st.binary(max_size=20))
    def do_what_stores_nothing(self, path: str, body: bytes) -> None:
        answer = self.server.post(path, body)
        assert answer.status == {"/v1/m": 200, "/v1/nothing": 404, "/health": 405}[path]

    @rule()
    def restart(self) -> None:
        assert isinstance(self.server.sink, SqliteSink)
        self.server.sink.close()
        self.server = self._start()

    # Invariants

    @invariant()
    def the_log_holds_what_the_model_says(self) -> None:
        if not self.path.exists():
            assert [*self.stored, *self.rejected, *self.quarantined] == []
            return
        log = SqliteLog(self.path)
        found = list(log.messages())
        assert [entry.seq for entry in found] == list(range(1, len(found) + 1))
        assert [
            Stored(entry.source, entry.message["messageId"], entry.call, entry.message["userId"]) for entry in found
        ] == self.stored
        assert all(entry.message["type"] == entry.call for entry in found)
        assert [(record.source, record.code) for record in log.rejected()] == self.rejected
        assert [record.payload for record in log.quarantined()] == self.quarantined
        totals = log.totals()
        assert (totals.messages, totals.rejected, totals.quarantined) == (
            len(self.stored),
            len(self.rejected),
            len(self.quarantined),
        )


TestAppAndLog = AppAndLog.TestCase
TestAppAndLog.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
