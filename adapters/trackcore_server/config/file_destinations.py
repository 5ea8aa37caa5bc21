"""Destinations that are files for analysis: `s3-archive`, `parquet` and `duckdb`.

They need other adapters, so they are in the package that combines the adapters.  The libraries are imported when a
sender is made; a bucket needs obstore, Parquet and a database need DuckDB.

A batch is at least one file, so batches are large, and wait for longer.  While nothing can be put everything waits: the
retry window is a week.
"""

from __future__ import annotations

from collections.abc import Hashable
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import attrs
from trackcore_delivery import (
    ByteCount,
    DeliveredDestination,
    ForgettingSender,
    Secret,
    Sender,
    SenderContext,
    positive,
    real_place,
)
from trackcore_objects import (
    ArchiveSender,
    ObjectStore,
    check_endpoint,
    check_location,
    open_store,
    place_of_location,
    shown_location,
)

from trackcore.warehouse import WarehouseReader
from trackcore_server.config.warehouse import Rebuild, WarehouseDestination

_WAIT = timedelta(minutes=5)
_DATABASE_WAIT = timedelta(seconds=10)
_WINDOW = timedelta(days=7)
_MESSAGES = 50_000
_BYTES = ByteCount(64 << 20)


@attrs.frozen(kw_only=True)
class ArchiveDestination(DeliveredDestination):
    """Whole messages in the layout of Segment's archives; see `trackcore_objects`.

    `location` is a folder, relative to that of the log, or `s3://BUCKET/PREFIX`.  Settings of a bucket that are left
    out come from Amazon's environment variables, or from the machine.
    """

    kind: ClassVar[str] = "s3-archive"

    location: str = attrs.field(validator=check_location)
    endpoint: str | None = attrs.field(default=None, validator=check_endpoint)
    region: str | None = None
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    batch_messages: int = attrs.field(default=_MESSAGES, validator=positive)
    batch_bytes: ByteCount = attrs.field(default=_BYTES, validator=positive)
    batch_wait: timedelta = _WAIT
    retry_window: timedelta = _WINDOW

    def make_sender(self, context: SenderContext) -> Sender:
        """See `DeliveredDestination.make_sender`."""
        return ArchiveSender(_store_of(self, context, "s3"))

    def place(self, context: SenderContext) -> Hashable:
        """See `DeliveredDestination.place`."""
        return self.kind, place_of_location(self.location, context.folder, self.endpoint)


@attrs.frozen(kw_only=True)
class ParquetDestination(WarehouseDestination):
    """A warehouse of Parquet files; see `trackcore_duckdb`.  `location` and the bucket are as for the archive."""

    kind: ClassVar[str] = "parquet"

    location: str = attrs.field(validator=check_location)
    endpoint: str | None = attrs.field(default=None, validator=check_endpoint)
    region: str | None = None
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    batch_messages: int = attrs.field(default=_MESSAGES, validator=positive)
    batch_bytes: ByteCount = attrs.field(default=_BYTES, validator=positive)
    batch_wait: timedelta = _WAIT
    retry_window: timedelta = _WINDOW

    def make_sender(self, context: SenderContext) -> ForgettingSender:
        """See `DeliveredDestination.make_sender`."""
        store = _store_of(self, context, "parquet")
        try:
            from trackcore_duckdb import ParquetSender  # noqa: PLC0415 - see the module
        except ModuleNotFoundError as error:
            raise _missing(self.kind, error, "parquet") from error
        return ParquetSender(store=store, options=self.options, schema=self.schema)

    def make_reader(self, context: SenderContext) -> WarehouseReader:
        """See `WarehouseDestination.make_reader`."""
        store = _store_of(self, context, "parquet")
        try:
            from trackcore_duckdb import ParquetReader  # noqa: PLC0415 - see the module
        except ModuleNotFoundError as error:
            raise _missing(self.kind, error, "parquet") from error
        return ParquetReader(store=store, options=self.options, schema=self.schema)

    def make_rebuild(self, context: SenderContext) -> Rebuild:
        """See `WarehouseDestination.make_rebuild`."""
        store = _store_of(self, context, "parquet")
        try:
            from trackcore_duckdb import ParquetRebuild  # noqa: PLC0415 - see the module
        except ModuleNotFoundError as error:
            raise _missing(self.kind, error, "parquet") from error
        location = shown_location(self.location, context.folder)
        return ParquetRebuild(store=store, options=self.options, schema=self.schema, location=location)

    def place(self, context: SenderContext) -> Hashable:
        """See `DeliveredDestination.place`."""
        return self.kind, place_of_location(self.location, context.folder, self.endpoint)


@attrs.frozen(kw_only=True)
class DuckDBDestination(WarehouseDestination):
    """A warehouse in a database of DuckDB: `path` is its file, relative to the folder of the log."""

    kind: ClassVar[str] = "duckdb"

    path: Path
    batch_messages: int = attrs.field(default=_MESSAGES, validator=positive)
    batch_bytes: ByteCount = attrs.field(default=_BYTES, validator=positive)
    batch_wait: timedelta = _DATABASE_WAIT
    retry_window: timedelta = _WINDOW

    def make_sender(self, context: SenderContext) -> ForgettingSender:
        """See `DeliveredDestination.make_sender`."""
        try:
            from trackcore_duckdb import DatabaseSender  # noqa: PLC0415 - see the module
        except ModuleNotFoundError as error:
            raise _missing(self.kind, error, "parquet") from error
        return DatabaseSender(file=context.folder / self.path, options=self.options, schema=self.schema)

    def make_reader(self, context: SenderContext) -> WarehouseReader:
        """See `WarehouseDestination.make_reader`."""
        try:
            from trackcore_duckdb import DatabaseReader  # noqa: PLC0415 - see the module
        except ModuleNotFoundError as error:
            raise _missing(self.kind, error, "parquet") from error
        return DatabaseReader(file=context.folder / self.path, schema=self.schema)

    def make_rebuild(self, context: SenderContext) -> Rebuild:
        """See `WarehouseDestination.make_rebuild`."""
        try:
            from trackcore_duckdb import DatabaseRebuild  # noqa: PLC0415 - see the module
        except ModuleNotFoundError as error:
            raise _missing(self.kind, error, "parquet") from error
        return DatabaseRebuild(file=context.folder / self.path, options=self.options, schema=self.schema)

    def place(self, context: SenderContext) -> Hashable:
        """See `DeliveredDestination.place`."""
        return self.kind, real_place(context.folder / self.path)


def _store_of(destination: Any, context: SenderContext, extra: str) -> ObjectStore:
    secrets = {name: secret.reveal(context.environ) for name, secret in destination.secrets()}
    settings = {"endpoint": destination.endpoint or "", "region": destination.region or "", **secrets}
    try:
        return open_store(destination.location, context.folder, settings)
    except ModuleNotFoundError as error:
        raise _missing("s3", error, extra) from error


def _missing(what: str, error: ModuleNotFoundError, extra: str) -> ValueError:
    return ValueError(f"{what} needs {error.name}: pip install 'trackcore[{extra}]'")
