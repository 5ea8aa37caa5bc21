"""Bytes to messages and back: a request taken apart, the rules of a message, the typed codec, the JSON Schema."""

from trackcore.wire.request import Request, body_too_large, hint_of_write_key, parse_request, peek
from trackcore.wire.schema import with_dialect

__all__ = ["Request", "body_too_large", "hint_of_write_key", "parse_request", "peek", "with_dialect"]
