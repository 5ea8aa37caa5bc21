"""The same messages as pydantic v2 models, written for parsing and dumping only.

This is less than intake does: nothing is merged, no time is corrected, no destination is resolved, and of the rules of
a message only the types of its fields and the required fields are checked.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import VERSION as VERSION  # noqa: PLC0414 - part of the report
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="allow")


class _Common(_Model):
    message_id: str | None = Field(None, max_length=100)
    user_id: str | None = None
    anonymous_id: str | None = None
    timestamp: datetime | None = None
    sent_at: datetime | None = None
    context: dict[str, Any] | None = None
    integrations: dict[str, bool | dict[str, Any]] | None = None


class Identify(_Common):
    """An identify message."""

    type: Literal["identify"]
    traits: dict[str, Any] | None = None


class Track(_Common):
    """A track message."""

    type: Literal["track"]
    event: str
    properties: dict[str, Any] | None = None


class Page(_Common):
    """A page message."""

    type: Literal["page"]
    name: str | None = None
    category: str | None = None
    properties: dict[str, Any] | None = None


class Screen(_Common):
    """A screen message."""

    type: Literal["screen"]
    name: str | None = None
    category: str | None = None
    properties: dict[str, Any] | None = None


class Group(_Common):
    """A group message."""

    type: Literal["group"]
    group_id: str
    traits: dict[str, Any] | None = None


class Alias(_Common):
    """An alias message."""

    type: Literal["alias"]
    previous_id: str


_Message = Annotated[Identify | Track | Page | Screen | Group | Alias, Field(discriminator="type")]


class Batch(_Model):
    """A batch of these messages."""

    batch: list[_Message]
    context: dict[str, Any] | None = None
    integrations: dict[str, bool | dict[str, Any]] | None = None
    sent_at: datetime | None = None


_batches = TypeAdapter(Batch)


def parse_and_dump(body: bytes) -> bytes:
    """Parse a batch and dump it again."""
    return _batches.dump_json(_batches.validate_json(body), by_alias=True, exclude_none=True)
