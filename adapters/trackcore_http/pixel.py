"""The pixel: a message in the query of an image, for mails and for pages without scripts.

The response is always the image, "even if an error occurs".  The message is in `data`, as base64 of JSON (the sample in
the documentation is unpadded) or as the JSON itself, or else in dotted keys: `properties.subject=Hello`.
Source: https://segment.com/docs/connections/sources/catalog/libraries/server/pixel-tracking-api/
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping

from trackcore import JSONObject
from trackcore.text import BYTE_ORDER_MARK
from trackcore_http.credentials import SURROGATE

GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")  # a transparent pixel

_STANDARD_ALPHABET = str.maketrans("-_ ", "+/+")  # a query parser replaces plus signs with spaces
_MAX_LEVELS = 64


def message_in_query(query: Mapping[str, str]) -> bytes:
    """Return the message in a query as JSON text, or else `data` as received, for intake to reject and store.

    A byte of a message that was not UTF-8 is an unpaired surrogate here, and is written as its escape: intake replaces
    it with a warning.
    """
    data = query.get("data")
    if data is None:
        return _escaped(json.dumps(_undotted(query), ensure_ascii=False, separators=(",", ":")))
    data = data.strip()
    if data.lstrip(_BLANK).startswith("{"):
        return _escaped(data)
    decoded = _from_base64(data)
    return data.encode("utf-8", "surrogateescape") if decoded is None else decoded


def _from_base64(data: str) -> bytes | None:
    """Return the decoded text; None unless it begins like an object, array or string of JSON: a word may be base64."""
    data = data.rstrip("=").translate(_STANDARD_ALPHABET)
    try:
        decoded = binascii.a2b_base64(data + "=" * (-len(data) % 4), strict_mode=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if decoded.removeprefix(BYTE_ORDER_MARK).lstrip()[:1] in _OPENING else None


_BLANK = BYTE_ORDER_MARK.decode() + " \t\r\n"
_OPENING = frozenset({b"{", b"[", b'"'})


def _escaped(text: str) -> bytes:
    return SURROGATE.sub("\ufffd", _SURROGATE_OR_ESCAPE.sub(_escape, text)).encode()


_SURROGATE_OR_ESCAPE = re.compile(
    r"(?P<high>\\u[dD][89abAB][0-9a-fA-F]{2})?(?P<surrogate>[\ud800-\udfff])(?P<low>\\u[dD][c-fC-F][0-9a-fA-F]{2})?"
    r"|\\.",
    re.DOTALL,
)
"""An unpaired surrogate with the escapes next to it, or any other escape."""


def _escape(match: re.Match[str]) -> str:
    surrogate, high, low = match["surrogate"], match["high"] or "", match["low"] or ""
    if surrogate is None:  # any other escape stays, so that a surrogate behind a backslash does not become an escape
        return match[0]
    if high or low:  # the two escapes would become one character, so only the client's own half stays an escape
        return f"{high}\ufffd{low}"
    return f"\\u{ord(surrogate):04x}"


def _undotted(query: Mapping[str, str]) -> JSONObject:
    """Build the object that dotted keys describe.  In a contradiction such as `a=1&a.b=2` the deeper key wins."""
    message: JSONObject = {}
    for key in sorted(query, key=lambda key: key.count("."), reverse=True):
        *parents, name = key.split(".", _MAX_LEVELS)
        inner = message
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner.setdefault(name, _value(key, query[key]))
    return message


def _value(key: str, text: str) -> str | bool:
    """Return a value as text; below `integrations`, where only booleans count, true and false as booleans."""
    return {"true": True, "false": False}.get(text.lower(), text) if key.startswith("integrations.") else text
