"""The JSON body that answers a failed HTTP request, for every part that serves HTTP.

SDKs retry on any other body than a JSON object with `code` and `message`.
"""

from __future__ import annotations

from trackcore.typing import JSONObject


def failure_body(code: str, message: str, **details: str | int | None) -> JSONObject:
    """Return the body with a stable code, a sentence, and the details that are known (not None)."""
    known = {name: value for name, value in details.items() if value is not None}
    return {"success": False, "code": code, "message": message, **known}
