"""Where a request came from, and the source that it belongs to.

A request can name write keys in several places.  The first key that *belongs to a source* counts, not the first key:
an Authorization header may be meant for another server, such as the Basic authentication of a staging site.  So if
none belongs to a source, the key that is kept is one from a place that is meant for write keys alone, if there is one.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from trackcore.credentials import Source, SourceRegistry, write_key
from trackcore.limits import Limits
from trackcore.sinks import KeyLocation
from trackcore.typing import WriteKey
from trackcore.wire.request import Request, peek


@attrs.frozen(kw_only=True)
class Origin:
    """Where a request came from, as far as its body does not contain it.

    `header_key`, `other_header_key` and `query_key` are write keys outside the body: in Authorization, in another
    header, in the address.  `client_ip` is the caller's address; `client_side` marks a caller that is the user's own
    device, so that the address is the user's.  `retry_count` is how often the caller has tried before, as it says.

    >>> origin = Origin(header_key=WriteKey("abc123"), client_ip="203.0.113.9", client_side=True)

    `collector.receive(body, origin=origin)` then finds the source by the key of the header, and fills in `context.ip`.
    """

    header_key: WriteKey | None = None
    other_header_key: WriteKey | None = None
    query_key: WriteKey | None = None
    client_ip: str | None = None
    client_side: bool = False
    retry_count: int = 0


def find_source(
    request: Request, origin: Origin, sources: SourceRegistry, limits: Limits
) -> tuple[Source | None, WriteKey | None, KeyLocation | None]:
    """Return the source of a request, the write key that belongs to it, and the location of that key.

    Without a source, the write key is the one to keep with the request; None if the request names none.  It is, in this
    order, that of a header or a query that only write keys are sent in, the first in the body (which is kept itself),
    and that of Authorization, which may be the user name that belongs to a password.
    """
    source = sources.find(origin.header_key)
    if source is not None:  # the usual case
        return source, origin.header_key, KeyLocation.HEADER
    in_body: WriteKey | None = None
    for key, found_by in _other_write_keys(request, origin, limits):
        source = sources.find(key)
        if source is not None:
            return source, key, found_by
        if found_by in (KeyLocation.BODY, KeyLocation.MESSAGE):
            in_body = in_body or key
    return None, origin.other_header_key or origin.query_key or in_body or origin.header_key, None


def write_keys_in_body(request: Request, limits: Limits) -> Iterator[tuple[WriteKey, KeyLocation]]:
    """Yield the write keys in a body, each with its location: that of the batch first, then those of its messages."""
    if request.write_key is not None:
        yield request.write_key, KeyLocation.BODY
    for item in request.items[: limits.batch_messages]:
        key = write_key(peek(item, "writeKey"))
        if key is not None:
            yield key, KeyLocation.MESSAGE


def _other_write_keys(request: Request, origin: Origin, limits: Limits) -> Iterator[tuple[WriteKey, KeyLocation]]:
    if origin.other_header_key:
        yield origin.other_header_key, KeyLocation.HEADER
    yield from write_keys_in_body(request, limits)
    if origin.query_key:
        yield origin.query_key, KeyLocation.QUERY
