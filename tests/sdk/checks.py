"""Properties of every good run, whichever the SDK."""

from __future__ import annotations

from collections.abc import Sequence

from sdk.servers import RecordedRequest, Server


def check_nothing_else(server: Server, messages: int) -> None:
    """The log has the given number of messages, none rejected and none in quarantine."""
    totals = server.log.totals()
    assert (totals.messages, totals.rejected, totals.quarantined) == (messages, 0, 0)


def check_no_retry(requests: Sequence[RecordedRequest]) -> None:
    """Every response is 200, no request is marked as a retry, and no message arrived twice."""
    assert {request.status for request in requests} == {200}
    assert {request.retry_count for request in requests} == {None}
    message_ids = [message_id for request in requests for message_id in request.message_ids]
    assert len(message_ids) == len(set(message_ids))
