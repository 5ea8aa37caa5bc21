"""`postgres`: tables in PostgreSQL in the layout of Segment, a schema for each source; see `trackcore_postgres`.

A batch counts as delivered when its transaction is committed.  While the database cannot be written, everything waits:
no message is at fault for that, so no user is held back.

This kind needs another adapter, so it is in the package that combines the adapters.  The client of the database is
imported when a sender is made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import attrs
from trackcore_delivery import (
    CursorMoved,
    DeliveryBatch,
    ErasureRequest,
    MessageRefused,
    RetryLater,
    Secret,
    SenderContext,
    UnusableSecret,
)

from trackcore.text import describe_unexpected
from trackcore_server.config.warehouse import WarehouseDestination

if TYPE_CHECKING:
    from trackcore_postgres import PostgresWarehouse, Rebuild

_log = logging.getLogger("trackcore.delivery")


def _check_password(_: object, __: object, password: Secret | None) -> None:
    if password is not None and not password.is_named:
        raise ValueError("a password must not be written in the settings: use an environment variable, 'env:NAME'")


@attrs.frozen(kw_only=True)
class PostgresDestination(WarehouseDestination):
    """A database.  `url` is a URL as libpq reads it, or the name of a variable with one; `password` is a variable."""

    kind: ClassVar[str] = "postgres"

    url: Secret
    password: Secret | None = attrs.field(default=None, validator=_check_password)

    def make_sender(self, context: SenderContext) -> PostgresSender:
        """See `DeliveredDestination.make_sender`."""
        return PostgresSender(self.make_warehouse(context))

    def make_reader(self, context: SenderContext) -> PostgresWarehouse:
        """See `WarehouseDestination.make_reader`."""
        return self.make_warehouse(context)

    def make_rebuild(self, context: SenderContext) -> PostgresRebuild:
        """See `WarehouseDestination.make_rebuild`."""
        live = self.make_warehouse(context)
        from trackcore_postgres import Rebuild  # noqa: PLC0415 - see above

        return PostgresRebuild(Rebuild(live))

    def make_warehouse(self, context: SenderContext) -> PostgresWarehouse:
        """Build the warehouse, which connects when it is used.  Raises `UnusableSecret` or `ValueError`."""
        try:
            from trackcore_postgres import PostgresWarehouse, UnusableUrl  # noqa: PLC0415 - see above
        except ModuleNotFoundError as error:
            raise ValueError(f"the kind 'postgres' needs {error.name}: pip install 'trackcore[postgres]'") from error
        try:
            return PostgresWarehouse(
                destination=self.name,
                url=self.url.reveal(context.environ),
                password=None if self.password is None else self.password.reveal(context.environ),
                options=self.options,
                schema=self.schema,
                may_have_password=self.url.is_named,
            )
        except UnusableUrl as error:
            if self.url.variable is not None:
                variable = self.url.variable
                raise UnusableSecret(variable=variable, detail=f"is not a URL: {error}", setting="url") from None
            raise ValueError(f"url: {error}") from None


@attrs.define
class PostgresSender:
    """Sends batches to a database."""

    _warehouse: PostgresWarehouse

    def send(self, batch: DeliveryBatch) -> Sequence[MessageRefused]:
        """See `Sender.send`."""
        from trackcore_postgres import Cursor, SentMessage  # noqa: PLC0415 - see the module
        from trackcore_postgres import CursorMoved as Moved  # noqa: PLC0415

        messages = [
            SentMessage(one.position, one.source, one.message_id, one.received_at, one.payload)
            for one in batch.messages
        ]
        cursors = [Cursor(lane=one.lane, text=one.text, is_exclusive=one.is_exclusive) for one in batch.cursors]
        try:
            refused = self._warehouse.load(messages, cursors)
        except Moved as error:
            raise CursorMoved(detail=str(error)) from None
        except Exception as error:
            raise _retried(error) from error
        return [MessageRefused(one.index, one.detail) for one in refused]

    def forget(self, request: ErasureRequest) -> None:
        """See `Forgetting.forget`."""
        try:
            self._warehouse.forget(request.subjects, request.source, request.pseudonyms)
        except Exception as error:
            raise _retried(error) from error

    def cursors(self) -> Mapping[str, str]:
        """See `CursorKeepingSender.cursors`."""
        try:
            return self._warehouse.cursors()
        except Exception as error:
            raise _retried(error) from error

    def close(self) -> None:
        """See `Sender.close`."""
        self._warehouse.close()


@attrs.define
class PostgresRebuild:
    """See `trackcore_server.config.warehouse.Rebuild`."""

    _rebuild: Rebuild
    sender: PostgresSender = attrs.field(init=False)

    @sender.default
    def _sender(self) -> PostgresSender:
        return PostgresSender(self._rebuild.target)

    def begin(self, sources: Sequence[str]) -> None:
        """See `Rebuild.begin`."""
        self._rebuild.begin(sources)

    def swap(self, load_rest: Callable[[], None]) -> Sequence[str]:
        """See `Rebuild.swap`."""
        return self._rebuild.swap(load_rest)

    def close(self) -> None:
        """See `Rebuild.close`."""
        self._rebuild.close()


def _retried(error: Exception) -> RetryLater:
    """Return the failure of the destination as a whole: no message of a user can be at fault for any of them."""
    from trackcore_postgres import WarehouseUnavailable  # noqa: PLC0415 - see the module

    if isinstance(error, WarehouseUnavailable):
        return RetryLater(detail=str(error), of_destination=True)
    _log.error("the warehouse failed: %s", describe_unexpected(error))
    return RetryLater(detail=f"the sender failed ({type(error).__name__})", of_destination=True)
