"""The parts that all kinds of warehouse share: settings, the interface of a rebuild, and a schema for each source."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import ClassVar, Protocol

import attrs
from attrs import validators
from trackcore_delivery import (
    ByteCount,
    DeliveredDestination,
    DeliveryLock,
    ForgettingSender,
    Sender,
    SenderContext,
    Turns,
    erasing,
    positive,
    taking_turns,
)

from trackcore import Destination, Source
from trackcore.warehouse import (
    WIDEN,
    WarehouseOptions,
    WarehouseReader,
    check_declared,
    check_on_conflict,
    schema_name,
)


class Rebuild(Protocol):
    """Fresh tables beside those in use, which take their place.  `sender` loads messages into them.

    `begin` and `swap` are called in a turn alone, batches are sent in shared ones (see `trackcore_delivery.turns`).
    """

    @property
    def sender(self) -> Sender:
        """The sender that loads messages into the fresh tables."""

    def begin(self, sources: Sequence[str]) -> None:
        """Delete what is left of a rebuild that was interrupted.  `sources` are those of the configuration.

        Raises `OldTablesRemain`, or another `TrackcoreError` if the warehouse cannot be used now.
        """

    def swap(self, load_rest: Callable[[], None]) -> Sequence[str]:
        """Load the last messages, and let the fresh tables take their place; return the schemas that were rebuilt.

        Raises a `TrackcoreError` if the warehouse cannot be used now.
        """

    def close(self) -> None:
        """Release connections."""


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

    def make_rebuild(self, context: SenderContext) -> Rebuild:
        """Build what fills fresh tables beside its own.  Raises as `make_sender` does."""
        raise NotImplementedError

    def open_sender(self, context: SenderContext) -> Sender:
        """See `DeliveredDestination.open_sender`.  Batches take turns with those of a rebuild."""
        sender = taking_turns(self.make_sender(context), self.turns(context))
        return erasing(sender, self.masked(sender, context))

    def make_sender(self, context: SenderContext) -> ForgettingSender:
        """See `DeliveredDestination.make_sender`."""
        raise NotImplementedError

    def turns(self, context: SenderContext) -> Turns:
        """Return the turns of those who fill its tables."""
        return Turns(context.folder / f"trackcore-turns-{self._digest}")

    def rebuild_lock(self, context: SenderContext) -> DeliveryLock:
        """Return the lock that a rebuild holds, so that there is one at a time."""
        return DeliveryLock(context.folder / f"trackcore-rebuild-{self._digest}.lock")

    @property
    def _digest(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()[:12]

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
