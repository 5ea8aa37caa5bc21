"""The pixel: a message in the query of an image, for mails and for pages without scripts.

The answer is always the image, "even if an error occurs".  The message stands in `data`, as base64 of JSON (the
documentation's own sample is unpadded) or as the JSON itself, or else in dotted keys: `properties.subject=Hello`.
Source: https://segment.com/docs/connections/sources/catalog/libraries/server/pixel-tracking-api/
"""

from __future__ import annotations

import base64
import binascii

from werkzeug.datastructures import MultiDict

from trackcore import JSONObject
from trackcore.jsontext import encode_json

GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
"""A transparent image of one pixel."""

_STANDARD_ALPHABET = str.maketrans("-_ ", "+/+")  # a query parser has made spaces of plus signs
_MOST_LEVELS = 64


def message_in_query(query: MultiDict[str, str]) -> bytes:
    """Give the message in a query as JSON text; empty when `data` is neither JSON nor base64."""
    data = query.get("data")
    if data is None:
        return encode_json(_undotted(query))
    data = data.strip()
    if data.startswith("{"):
        return data.encode("utf-8", "replace")
    data = data.rstrip("=").translate(_STANDARD_ALPHABET)
    try:
        return binascii.a2b_base64(data + "=" * (-len(data) % 4), strict_mode=True)
    except (binascii.Error, ValueError):
        return b""


def _undotted(query: MultiDict[str, str]) -> JSONObject:
    """Build the object that dotted keys describe.  Where `a=1&a.b=2` contradict each other the deeper key wins."""
    message: JSONObject = {}
    for key in sorted(query, key=lambda key: key.count("."), reverse=True):
        *parents, name = key.split(".", _MOST_LEVELS)
        inner = message
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner.setdefault(name, query[key])
    return message
