"""Where a request may carry its write key, beside its body."""

from __future__ import annotations

from werkzeug.wrappers import Request

from trackcore import WriteKey, write_key_from_authorization

_KEY_HEADER = "X-Write-Key"  # Jitsu, as `key:secret`


def header_write_key(request: Request) -> WriteKey | None:
    """Read the write key from the headers."""
    key = write_key_from_authorization(request.headers.get("Authorization"))
    if key is None and (given := request.headers.get(_KEY_HEADER, "").partition(":")[0]):
        return WriteKey(given)
    return key


def query_write_key(request: Request) -> WriteKey | None:
    """Read the write key from the query, where beacons and pixels have it."""
    key = request.args.get("writeKey")
    return WriteKey(key) if key else None
