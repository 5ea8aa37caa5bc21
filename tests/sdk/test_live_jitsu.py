"""@jitsu/js against a real server: different paths, the key in X-Write-Key, and a masked one in each body."""

from __future__ import annotations

from typing import Any

from sdk.cases import AWKWARD, EMOJI
from sdk.checks import check_no_retry, check_nothing_else
from sdk.comparing import spoken
from sdk.results import record
from sdk.running import run_client
from sdk.sdks import JITSU
from sdk.servers import WRITE_KEY, Server

from trackcore import Query

CALLS: dict[str, dict[str, Any]] = {
    "identify": {"userId": f"user {EMOJI}", "traits": {"plan": "Pro"} | AWKWARD},
    "track": {"event": f"Gekauft {EMOJI}", "properties": AWKWARD},
    "page": {"properties": {"name": "Home", "url": "https://example.com/a?b=c", "path": "/a"}},
    "group": {"groupId": "group-1", "traits": AWKWARD},
}


def test_jitsu(server: Server) -> None:
    """Each of its four calls is stored once with its arguments; the masked key of the body is not a mismatch."""
    calls = [{"case": call, "call": call, "fields": fields} for call, fields in CALLS.items()]
    report = run_client(JITSU, server, calls, write_key=f"{WRITE_KEY}:secret", batch_size=1)
    assert report["errors"] == []
    assert report["made"] == len(CALLS)
    check_nothing_else(server, len(CALLS))

    for stored in server.log.messages(Query(source="live")):
        given = spoken("Node", CALLS[stored.call])
        assert {name: stored.message.get(name) for name in given} == given
        assert stored.message["userId"] == CALLS["identify"]["userId"]
        library = stored.message["context"]["library"]
        assert (library["name"], library["version"]) == (JITSU.habits.library, JITSU.version)
        assert stored.warnings == ()
        assert WRITE_KEY not in repr(stored.message)

    requests = server.requests()
    check_no_retry(requests)
    assert [request.path for request in requests] == [f"/api/s/s2s/{call}" for call in CALLS]
    record(JITSU.package, JITSU.version, "four calls")
