"""The batch merger: what a batch says for all of its messages, laid under what each message says itself.

"The `context` and `integrations` objects [of a batch] will be merged with any context / destinations inside each of the
items" (https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#batch).  The page says neither
how deep nor who wins.  We merge objects recursively; the item wins; arrays and scalars replace; an explicit null inside
wins too, since it says that there is no such thing.

Laws (tested): `{}` is the identity on both sides; merging a thing with itself changes nothing; where no key is an
object in one operand and a scalar in another, merging is associative; operands are never changed, and no two results
share a container of the batch.
"""

from __future__ import annotations

from typing import Any

import attrs
import msgspec

from trackcore.messages import Batch, Message
from trackcore.text.jsontext import encode_json
from trackcore.typing import JSONObject


def merge_batch(batch: Batch) -> tuple[Message, ...]:
    """Give the messages of a batch, each with the batch's context, integrations and time of sending merged in."""
    return tuple(
        attrs.evolve(
            message,
            context=_merge_absent(batch.context, message.context),
            integrations=_merge_absent(batch.integrations, message.integrations),
            sent_at=message.sent_at or batch.sent_at,
        )
        for message in batch.messages
    )


def merge_objects(under: JSONObject, over: JSONObject) -> JSONObject:
    """Lay `over` on `under`: a new object, in which `over` wins and objects present in both are merged likewise."""
    merged: JSONObject = copied(merge_onto(under, over))
    return merged


def merge_onto(under: JSONObject, over: JSONObject) -> JSONObject:
    """Do as `merge_objects`, but share what need not be merged with the operands: for a result that is only read."""
    merged = under | over
    for key, value in over.items():
        if value.__class__ is dict and under.get(key).__class__ is dict:
            merged[key] = merge_onto(under[key], value)
    return merged


@attrs.define
class SharedContext:
    """The context of a batch, made ready to be laid under that of each message.

    The messages of one client name the same keys, and most often name no object that the batch has too.  Then what a
    message has from the batch is the same for all of them: it is found out and written once, and as text joined to what
    each message says itself.
    """

    value: JSONObject
    _text: msgspec.Raw = attrs.field(init=False)
    _objects: frozenset[str] = attrs.field(init=False)
    _rests: dict[tuple[str, ...], tuple[bytes, tuple[str, ...]]] = attrs.field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._text = msgspec.Raw(encode_json(self.value))
        self._objects = frozenset(key for key, value in self.value.items() if value.__class__ is dict)

    def under(self, own: JSONObject | None) -> tuple[msgspec.Raw, tuple[str, ...]]:
        """Give what `merge_onto` gives, as JSON text, and what `inherited_paths` gives."""
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
        """Give what is to follow the text of `own` in place of its closing brace, and the paths of that."""
        rest = {key: value for key, value in self.value.items() if key not in own}
        text = encode_json(rest)[1:]
        return b"," + text if own and rest else text, inherited_paths(_CONTEXT, self.value, own)


def inherited_paths(name: str, under: JSONObject, over: JSONObject | None) -> tuple[str, ...]:
    """Name what a merged object has from the batch alone: `context.device`, or `context` where the item had none.

    The paths of one object are told up to 1,000 characters; `…` stands for the rest.
    """
    if over is None:
        return (name,)
    paths: list[str] = []
    _add_inherited(paths, name, under, over, _MAX_PATH_CHARS)
    return tuple(paths)


def _add_inherited(paths: list[str], prefix: str, under: JSONObject, over: JSONObject, left: int) -> int:
    """Add the paths below `prefix` while there are characters left for them; return how many then are."""
    for key, value in under.items():
        if key not in over:
            path = f"{prefix}.{key}"
            left -= len(path)
            paths.append(path if left >= 0 else "…")
        elif value.__class__ is dict and over[key].__class__ is dict:
            left = _add_inherited(paths, f"{prefix}.{key}", value, over[key], left)
        if left < 0:
            break
    return left


def _merge_absent(under: JSONObject | None, over: JSONObject | None) -> JSONObject | None:
    if under is None:
        return over
    return merge_objects(under, over or {})


def copied(value: Any) -> Any:
    """Copy a JSON value with all that is in it."""
    if value.__class__ is dict:
        return {key: copied(inner) for key, inner in value.items()}
    if value.__class__ is list:
        return [copied(inner) for inner in value]
    return value


_CONTEXT = "context"
_MAX_PATH_CHARS = 1_000
