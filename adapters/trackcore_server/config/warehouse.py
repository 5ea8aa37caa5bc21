"""The settings that all kinds of warehouse share, and their rule across sources: no two share a schema."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import ClassVar

import attrs
from attrs import validators
from trackcore_delivery import ByteCount, DeliveredDestination, SenderContext, positive

from trackcore import Destination, Source
from trackcore.warehouse import (
    WIDEN,
    WarehouseOptions,
    WarehouseReader,
    check_declared,
    check_on_conflict,
    schema_name,
)

_is_pattern = re.compile(r"(?:[a-z][a-z0-9_]*|(?=\{))(?:\{source\})?[a-z0-9_]*").fullmatch
_SOURCE = "{source}"


def _check_schema(_: object, __: object, schema: str) -> None:
    if not schema or not _is_pattern(schema):
        raise ValueError("expected small letters, digits and `_`, with or without `{source}` among them")


@attrs.frozen(kw_only=True)
class WarehouseDestination(DeliveredDestination):
    """A destination with tables in the layout of Segment.

    Its batches are larger than those of other kinds, and it is retried for longer.  `schema` is the name of the schema
    of a source, in which `{source}` is the slug of its name.  The others are those of `WarehouseOptions`.
    """

    is_warehouse: ClassVar[bool] = True
    to_fill_again: ClassVar[str] = ""
    """How its tables are made again if `trackcore warehouse rebuild` does not do it."""

    batch_messages: int = attrs.field(default=2_000, validator=positive)
    batch_bytes: ByteCount = attrs.field(default=ByteCount(4_000_000), validator=positive)
    retry_window: timedelta = attrs.field(default=timedelta(days=7), validator=validators.ge(timedelta()))
    schema: str = attrs.field(default=_SOURCE, validator=_check_schema)
    tables: tuple[str, ...] | None = None
    declare: tuple[str, ...] = attrs.field(default=("context",), validator=check_declared)
    max_columns: int = attrs.field(default=400, validator=[validators.ge(100), validators.le(1500)])
    max_tables: int = attrs.field(default=1000, validator=validators.ge(0))
    on_conflict: str = attrs.field(default=WIDEN, validator=check_on_conflict)
    users: bool = True

    def make_reader(self, context: SenderContext) -> WarehouseReader:
        """Build what reads its tables.  Raises as `make_sender` does."""
        raise NotImplementedError

    @property
    def options(self) -> WarehouseOptions:
        """The options of its rows and tables."""
        return WarehouseOptions(
            tables=self.tables,
            declare=self.declare,
            max_columns=self.max_columns,
            max_tables=self.max_tables,
            on_conflict=self.on_conflict,
            users=self.users,
        )


def shared_schemas(sources: Sequence[Source], destinations: Sequence[Destination]) -> Iterator[tuple[str, str]]:
    """Yield the path and the detail for each warehouse in which two sources would share a schema."""
    for index, destination in enumerate(destinations):
        if not isinstance(destination, WarehouseDestination):
            continue
        owners: dict[str, str] = {}
        for source in sources:
            if source.destinations is not None and destination.name not in source.destinations:
                continue
            name = schema_name(source.name, destination.schema)
            if (other := owners.setdefault(name, source.name)) != source.name:
                hint = "" if _SOURCE in destination.schema else f"; write {_SOURCE!r} into the name"
                detail = f"the sources {other!r} and {source.name!r} would share the schema {name!r}{hint}"
                yield f"destinations[{index}].schema", detail
                break
