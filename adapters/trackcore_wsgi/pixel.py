"""The pixel: a message in the query of an image, for mails and for pages without scripts.

The answer is always the image, "even if an error occurs".  The message stands in `data`, as base64 of JSON (the
documentation's own sample is unpadded) or as the JSON itself, or else in dotted keys: `properties.subject=Hello`.
Source: https://segment.com/docs/connections/sources/catalog/libraries/server/pixel-tracking-api/
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping

from trackcore import JSONObject
from trackcore_wsgi.credentials import SURROGATE

GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
"""A transparent image of one pixel."""

_STANDARD_ALPHABET = str.maketrans("-_ ", "+/+")  # a query parser has made spaces of plus signs
_MOST_LEVELS = 64


def message_in_query(query: Mapping[str, str]) -> bytes:
    """Return the message in a query as JSON text; empty when `data` is neither JSON nor base64.

    What was not UTF-8 in the query is a lone surrogate, and is written as its escape: intake replaces that, and warns.
    """
    data = query.get("data")
    if data is None:
        return _escaped(json.dumps(_undotted(query), ensure_ascii=False, separators=(",", ":")))
    data = data.strip()
    if data.startswith("{"):
        return _escaped(data)
    data = data.rstrip("=").translate(_STANDARD_ALPHABET)
    try:
        return binascii.a2b_base64(data + "=" * (-len(data) % 4), strict_mode=True)
    except (binascii.Error, ValueError):
        return b""


def _escaped(text: str) -> bytes:
    return SURROGATE.sub(lambda surrogate: f"\\u{ord(surrogate[0]):04x}", text).encode()


def _undotted(query: Mapping[str, str]) -> JSONObject:
    """Build the object that dotted keys describe.  Where `a=1&a.b=2` contradict each other the deeper key wins."""
    message: JSONObject = {}
    for key in sorted(query, key=lambda key: key.count("."), reverse=True):
        *parents, name = key.split(".", _MOST_LEVELS)
        inner = message
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner.setdefault(name, _value(key, query[key]))
    return message


def _value(key: str, text: str) -> str | bool:
    """Return a value as text; below `integrations`, where only a boolean decides, true and false as booleans."""
    return _BOOLEANS.get(text.lower(), text) if key.startswith("integrations.") else text


_BOOLEANS = {"true": True, "false": False}
