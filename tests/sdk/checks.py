"""What must hold after every good run, whichever SDK it was."""

from __future__ import annotations

from collections.abc import Sequence

from sdk.servers import RecordedRequest, Server


def check_nothing_else(server: Server, messages: int) -> None:
    """The log holds so many messages; nothing was rejected and nothing is in quarantine."""
    totals = server.log.totals()
    assert (totals.messages, totals.rejected, totals.quarantined) == (messages, 0, 0)


def check_no_retry(requests: Sequence[RecordedRequest]) -> None:
    """Every answer is 200, no request says that it is a retry, and no message came twice."""
    assert {request.status for request in requests} == {200}
    assert {request.retry_count for request in requests} == {None}
    message_ids = [message_id for request in requests for message_id in request.message_ids]
    assert len(message_ids) == len(set(message_ids))
