"""The batch merger: merges batch-level fields into each message; the message wins.

"The `context` and `integrations` objects [of a batch] will be merged with any context / destinations inside each of the
items" (https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#batch).  The page specifies
neither the depth nor the winner.  Here objects are merged recursively; the item wins; arrays and scalars replace; an
explicit null inside wins too, since it states that the value is absent.

Laws (tested): `{}` is the identity on both sides; merging an object with itself changes nothing; if no key is an object
in one operand and a scalar in another, merging is associative; operands are never changed, and no two results share a
container of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import attrs
import msgspec

from trackcore.messages import Batch, Message
from trackcore.text.jsontext import any_value, encode_json, is_object, raw_fields
from trackcore.typing import JSONObject


def merge_batch(batch: Batch) -> tuple[Message, ...]:
    """Return the messages of a batch, each with the batch's context, integrations and time of sending merged in."""
    return tuple(
        attrs.evolve(
            message,
            context=_merge_absent(batch.context, message.context),
            integrations=_merge_absent(batch.integrations, message.integrations),
            sent_at=message.sent_at or batch.sent_at,
        )
        for message in batch.messages
    )


def merge_objects(base: JSONObject, override: JSONObject) -> JSONObject:
    """Return a new object in which `override` wins, and objects present in both are merged by the same rule."""
    merged: JSONObject = copied(merge_onto(base, override))
    return merged


def merge_onto(base: JSONObject, override: JSONObject) -> JSONObject:
    """Merge as `merge_objects` does, but without copying: the result shares containers with its operands."""
    merged = base | override
    for key, value in override.items():
        if value.__class__ is dict and base.get(key).__class__ is dict:
            merged[key] = merge_onto(base[key], value)
    return merged


def merge_texts(base: bytes | msgspec.Raw, override: bytes | msgspec.Raw) -> bytes:
    """Merge the JSON texts of two objects as `merge_objects` does; what is not merged stays as it was written."""
    merged = raw_fields.decode(base)
    for key, value in raw_fields.decode(override).items():
        under = merged.get(key)
        if under is not None and is_object(under) and is_object(value):
            merged[key] = msgspec.Raw(merge_texts(under, value))
        else:
            merged[key] = value
    return encode_json(merged)


class _HasContext(Protocol):
    """A message whose context is JSON text."""

    context: msgspec.Raw


class SharedContext:
    """The context of a batch, as its JSON text, prepared for merging the context of each message onto it.

    The messages of one client have the same keys, and most often no object that the batch has too.  Then all of them
    inherit the same part of the batch, which is computed and encoded once, and joined as text to each message's own.
    """

    def __init__(self, text: bytes) -> None:
        self.value: JSONObject = any_value.decode(text)
        self._text = text
        self._fields = raw_fields.decode(text)
        self._objects = frozenset(key for key, inner in self.value.items() if inner.__class__ is dict)
        self._rests: dict[frozenset[str], tuple[bytes, tuple[str, ...]]] = {}

    def merge_into(
        self, messages: Sequence[_HasContext], contexts: Sequence[JSONObject | None]
    ) -> list[tuple[str, ...]]:
        """Set the context of each message to the result of `merge_texts`, and return those of `inherited_paths`.

        `contexts` are those of the messages, decoded; None is an absent one.
        """
        if all(contexts) and all(map(self._fields.keys().isdisjoint, cast("Sequence[JSONObject]", contexts))):
            rest, paths = self._rest_beside(frozenset())
            rest = b"," + rest if self._fields else rest
            for message in messages:
                message.context = msgspec.Raw(bytes(message.context)[:-1] + rest)
            return [paths] * len(contexts)
        return [self._merge(message, context) for message, context in zip(messages, contexts, strict=True)]

    def _merge(self, message: _HasContext, own: JSONObject | None) -> tuple[str, ...]:
        if own is None:
            message.context = msgspec.Raw(self._text)
            return (_CONTEXT,)
        if not self._objects.isdisjoint(own):
            message.context = msgspec.Raw(merge_texts(self._text, message.context))
            return inherited_paths(_CONTEXT, self.value, own)
        rest, paths = self._rest_beside(frozenset(self._fields.keys() & own))
        comma = b"," if own and rest != b"}" else b""
        message.context = msgspec.Raw(b"%b%b%b" % (bytes(message.context)[:-1], comma, rest))
        return paths

    def _rest_beside(self, own: frozenset[str]) -> tuple[bytes, tuple[str, ...]]:
        """Return the batch's fields that are not in `own`, as text after the opening brace, and their paths."""
        found = self._rests.get(own)
        if found is None:
            rest = {key: value for key, value in self._fields.items() if key not in own}
            found = encode_json(rest)[1:], inherited_paths(_CONTEXT, self.value, dict.fromkeys(own))
            if len(self._rests) < _MAX_RESTS:
                self._rests[own] = found
        return found


def inherited_paths(name: str, shared: JSONObject, own: JSONObject | None) -> tuple[str, ...]:
    """List the paths that come only from the batch: `context.device`, or `context` if the item had none.

    The paths of one object are limited to 1,000 characters; `…` replaces the rest.
    """
    if own is None:
        return (name,)
    paths: list[str] = []
    _add_inherited(paths, name, shared, own, _MAX_PATH_CHARS)
    return tuple(paths)


def _add_inherited(paths: list[str], prefix: str, shared: JSONObject, own: JSONObject, left: int) -> int:
    """Add the paths below `prefix` while there are characters left for them; return how many are left then."""
    for key, value in shared.items():
        if key not in own:
            path = f"{prefix}.{key}"
            left -= len(path)
            paths.append(path if left >= 0 else "…")
        elif value.__class__ is dict and own[key].__class__ is dict:
            left = _add_inherited(paths, f"{prefix}.{key}", value, own[key], left)
        if left < 0:
            break
    return left


def _merge_absent(base: JSONObject | None, override: JSONObject | None) -> JSONObject | None:
    return override if base is None else merge_objects(base, override or {})


def copied(value: Any) -> Any:
    """Return a deep copy of a JSON value."""
    if value.__class__ is dict:
        return {key: copied(inner) for key, inner in value.items()}
    if value.__class__ is list:
        return [copied(inner) for inner in value]
    return value


_CONTEXT = "context"
_MAX_RESTS = 16
_MAX_PATH_CHARS = 1_000
