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

from trackcore.messages import Batch, Message
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
    merged: JSONObject = _copied(under)
    for key, value in over.items():
        if value.__class__ is dict and merged.get(key).__class__ is dict:
            merged[key] = merge_objects(merged[key], value)
        else:
            merged[key] = value
    return merged


def _merge_absent(under: JSONObject | None, over: JSONObject | None) -> JSONObject | None:
    if under is None:
        return over
    return merge_objects(under, over or {})


def _copied(value: Any) -> Any:
    if value.__class__ is dict:
        return {key: _copied(inner) for key, inner in value.items()}
    if value.__class__ is list:
        return [_copied(inner) for inner in value]
    return value
