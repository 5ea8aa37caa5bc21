"""Tables hold exactly what the rules say, by an oracle that is written separately."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from postgres_cluster import Cluster, Database
from strategies import CALLS
from warehouse_helpers import (
    SCHEMA,
    api_examples,
    as_log,
    check_against_log,
    generated,
    load,
    message,
    received,
    sdk_requests,
)
from warehouse_oracle import Stored
from warehouse_strategies import messages

from trackcore import JSONObject

_sources, _ids = count(1), count(1)


class TestAgainstTheOracle:
    def test_the_examples_of_the_api_page(self, database: Database) -> None:
        log = received(api_examples())
        assert len(api_examples()) == 8
        assert {json.loads(one.payload)["type"] for one in log} == {*CALLS}
        assert load(database, log) == []
        check_against_log(database, log)

    def test_all_recorded_requests_of_sdks(self, database: Database) -> None:
        log = received(sdk_requests())
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
