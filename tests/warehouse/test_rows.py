"""Tables hold exactly what the rules say, by an oracle that is written separately."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path

import pytest
from adapter_helpers import KEY, VECTORS, serve, zipped
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from postgres_cluster import Cluster, Database
from strategies import CALLS
from warehouse_helpers import SCHEMA, SOURCE, as_log, check_against_log, generated, load, message
from warehouse_oracle import Stored
from warehouse_strategies import messages

from trackcore import JSONObject, MemorySink

_sources, _ids = count(1), count(1)


def received(requests: Iterable[tuple[str, bytes, Mapping[str, str]]]) -> list[Stored]:
    """Return what a server stores of requests, as messages of one source."""
    sink = MemorySink()
    server = serve(sink)
    for path, body, headers in requests:
        server.post(path, body, headers={**KEY, **headers})
    return [Stored(seq, SOURCE, envelope.payload) for seq, envelope in enumerate(sink.envelopes, 1)]


class TestAgainstTheOracle:
    def test_the_examples_of_the_api_page(self, database: Database) -> None:
        examples = json.loads((VECTORS / "api-page-examples.json").read_text())
        log = received((f"/v1/{one['call']}", json.dumps(one["body"]).encode(), {}) for one in examples)
        assert len(examples) == 8
        assert {json.loads(one.payload)["type"] for one in log} == {*CALLS}
        assert load(database, log) == []
        check_against_log(database, log)

    def test_all_recorded_requests_of_sdks(self, database: Database) -> None:
        log = received(map(_request, sorted((VECTORS / "sdk-captures").glob("*.json"))))
        assert len(log) > 40
        assert load(database, log) == []
        check_against_log(database, log)

    def test_generated_messages(self, database: Database, is_long: bool) -> None:
        log = as_log(generated(100_000 if is_long else 2_000))
        assert load(database, log, batch=500) == []
        check_against_log(database, log)

    @settings(max_examples=20, phases=set(Phase) - {Phase.shrink})  # each example makes a dozen tables
    @given(st.lists(messages(), min_size=1, max_size=6))
    def test_hostile_messages(self, shared: Database, sent: Sequence[JSONObject]) -> None:
        number = next(_sources)
        log = [Stored(one.seq, f"Source {number}", one.payload) for one in as_log(map(_as_stored, sent))]
        assert load(shared, log, batch=5) == []
        check_against_log(shared, log, f"source_{number}")

    def test_messages_that_come_again_change_nothing(self, database: Database) -> None:
        log = as_log(generated(300))
        load(database, log)
        before = {table: database.table(SCHEMA, table) for table in database.tables(SCHEMA) - {"users", "accounts"}}
        load(database, list(reversed(log)), batch=7)
        assert {table: database.table(SCHEMA, table) for table in before} == before

    def test_users_are_right_in_any_order(self, database: Database) -> None:
        log = as_log(
            message(
                number, "identify", userId=f"u{number % 3}", traits={"plan": f"p{number}", f"t{number % 4}": number}
            )
            for number in range(60)
        )
        load(database, [*log[30:], *log[:30]], batch=7)
        check_against_log(database, log)


@pytest.fixture(name="shared", scope="module")
def _shared(cluster: Cluster) -> Database:
    return cluster.database()


def _as_stored(sent: JSONObject) -> JSONObject:
    """Return a message with numbers that JSON can hold, as it would be stored."""
    text = json.dumps(sent, default=lambda raw: float(bytes(raw)))
    return {**json.loads(text.replace("Infinity", "1")), "messageId": f"m{next(_ids)}"}


def _request(capture: Path) -> tuple[str, bytes, Mapping[str, str]]:
    recorded = json.loads(capture.read_text("utf-8"))
    body = recorded["body"].encode()
    headers = {name.lower(): value for name, value in recorded["headers"]}
    is_zipped = headers.get("content-encoding") == "gzip"
    sent = zipped(body) if is_zipped else body
    return recorded["request_line"].split()[1], sent, {**headers, "content-length": str(len(sent))}
