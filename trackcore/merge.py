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

from typing import Any

import attrs
import msgspec

from trackcore.messages import Batch, Message
from trackcore.text.jsontext import encode_json
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


class SharedContext:
    """The context of a batch, prepared for merging the context of each message onto it.

    The messages of one client have the same keys, and most often no object that the batch has too.  Then all of them
    inherit the same part of the batch, which is computed and encoded once, and joined as text to each message's own.
    """

    def __init__(self, value: JSONObject) -> None:
        self.value = value
        self._text = msgspec.Raw(encode_json(value))
        self._objects = frozenset(key for key, inner in value.items() if inner.__class__ is dict)
        self._rests: dict[tuple[str, ...], tuple[bytes, tuple[str, ...]]] = {}

    def merged_with(self, own: JSONObject | None) -> tuple[msgspec.Raw, tuple[str, ...]]:
        """Return the result of `merge_onto` as JSON text, and that of `inherited_paths`."""
        if own is None:
            return self._text, (_CONTEXT,)
        keys = tuple(own)
        rest = self._rests.get(keys)
        if rest is None:
            if not self._objects.isdisjoint(keys):
                return msgspec.Raw(encode_json(merge_onto(self.value, own))), inherited_paths(_CONTEXT, self.value, own)
            rest = self._rests[keys] = self._rest(own)
        return msgspec.Raw(encode_json(own)[:-1] + rest[0]), rest[1]

    def _rest(self, own: JSONObject) -> tuple[bytes, tuple[str, ...]]:
        """Return the text that replaces the closing brace of `own`, and the paths of its fields."""
        rest = {key: value for key, value in self.value.items() if key not in own}
        text = encode_json(rest)[1:]
        return b"," + text if own and rest else text, inherited_paths(_CONTEXT, self.value, own)


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
_MAX_PATH_CHARS = 1_000
