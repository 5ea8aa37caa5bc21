"""The description of one field of a message: its kind, its sentence, and the reason codes of what can be wrong.

It stands on the attrs class of the message (`trackcore.messages`) and nowhere else.  The wire rules, the struct of the
hot path, the codec, the JSON Schema and the OpenAPI description are derived from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, auto
from typing import Any

import attrs

from trackcore.errors import Reason


class Kind(IntEnum):
    """The kind of value in a field.  A stored message has its fields in this order."""

    MESSAGE_ID = auto()
    USER_ID = auto()  # each message needs one of these
    TEXT = auto()
    ID = auto()
    PROPERTIES = auto()
    TRAITS = auto()
    CONTEXT = auto()
    INTEGRATIONS = auto()
    TIME = auto()
    WRITE_KEY = auto()


@attrs.frozen(kw_only=True)
class Field:
    """One field of a message or of a batch.

    `missing` is the reason code of a message without the field, None where the field is optional.
    """

    name: str
    kind: Kind
    sentence: str
    missing: Reason | None

    @property
    def wire_name(self) -> str:
        """Its name on the wire."""
        return wire_name(self.name)

    @property
    def wrong_type(self) -> Reason | None:
        """The reason code of a value that cannot be converted, None where any value is accepted."""
        if self.kind in (Kind.MESSAGE_ID, Kind.USER_ID, Kind.ID):
            return Reason.ID_NOT_STRING
        if Kind.PROPERTIES <= self.kind <= Kind.INTEGRATIONS:
            return Reason(f"{self.name}_not_object")
        return Reason(f"{self.name}_not_string") if self.kind is Kind.TEXT else None


def described(kind: Kind, sentence: str, missing: Reason | None = None) -> Mapping[str, Any]:
    """Return the metadata that describes a field on its attrs class."""
    return {"kind": kind, "sentence": sentence, "missing": missing}


def optional(kind: Kind, sentence: str) -> Any:
    """Return the attrs field of a value that may be absent (None)."""
    return attrs.field(default=None, metadata=described(kind, sentence))


def fields_of(described_class: type[attrs.AttrsInstance]) -> tuple[Field, ...]:
    """Return the described fields of an attrs class, in their order on it."""
    return tuple(Field(name=field.name, **field.metadata) for field in attrs.fields(described_class) if field.metadata)


def wire_name(attribute: str) -> str:
    """Return the wire name of an attribute: `user_id` is `userId`."""
    first, *rest = attribute.split("_")
    return first + "".join(word.capitalize() for word in rest)
