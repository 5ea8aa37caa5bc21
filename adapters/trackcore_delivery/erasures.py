"""Erasures: requests to a destination to forget persons.

The worker of a destination processes them between two batches.  So nothing of the persons is in flight then, and what
the log had of them is gone already: whatever the destination has of them, it has now.  A kind of destination that can
forget has a sender that is `Forgetting`; a request to any other is answered as not supported.

A request has the ids in clear until it is settled.  With it, in one transaction, the dead letters and the held messages
of the persons for this destination are deleted.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol, cast, runtime_checkable

import attrs
import msgspec

from trackcore import Call, JSONObject, format_timestamp
from trackcore.privacy import Subject, id_forms, pseudonymized, subjects_of
from trackcore.text import encode_json
from trackcore_delivery import state_rows
from trackcore_delivery.feed import FedMessage
from trackcore_delivery.sending import CursorKeepingSender, DeliveryBatch, MessageRefused, PermanentError, Sender

DELETE = cast("Call", "delete")
"""The call of a request on its way to a sender; it is not one of a message."""


class ErasureStatus(StrEnum):
    """The status of a request to one destination."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"


NOT_SUPPORTED = "this kind of destination cannot forget"
ERASURE = "erasure"
"""The name of the queue of requests."""

_digits_kept = msgspec.json.Decoder(float_hook=msgspec.Raw)


@attrs.frozen(kw_only=True)
class ErasureRequest:
    """The persons to forget, in the messages of a source or of all, and the id of the request.

    With `pseudonyms` their messages are kept under these names.
    """

    id: str
    subjects: tuple[Subject, ...]
    source: str | None
    requested_at: datetime
    pseudonyms: Mapping[Subject, str] | None = None
    _forms: frozenset[bytes] = attrs.field(init=False, repr=False, eq=False)

    @_forms.default
    def _all_forms(self) -> frozenset[bytes]:
        return frozenset(form for subject in self.subjects for form in id_forms(subject.id))

    def may_concern(self, line: bytes) -> bool:
        """Return whether a text has one of the ids; most do not, and need not be decoded."""
        return any(form in line for form in self._forms)

    def apply(self, line: bytes) -> bytes | None:
        """Return a stored message without its persons; None if nothing of it is kept.

        One that is not theirs is returned as it is.  Raises `msgspec.MsgspecError` for one that is cut off.
        """
        if not self.may_concern(line):
            return line
        message = _digits_kept.decode(line)
        if message.__class__ is not dict or set(self.subjects).isdisjoint(subjects_of(message)):
            return line
        return None if self.pseudonyms is None else encode_json(pseudonymized(message, dict(self.pseudonyms)))

    def messages(self) -> Iterator[JSONObject]:
        """Yield the message that asks another system to forget each person."""
        for number, subject in enumerate(self.subjects):
            yield {
                "type": "delete",
                "messageId": f"{self.id}-{number}",
                "userId" if subject.kind == "user" else "anonymousId": subject.id,
                "timestamp": format_timestamp(self.requested_at),
                "keepEvents": self.pseudonyms is not None,
                **({} if self.source is None else {"source": self.source}),
            }


@runtime_checkable
class Forgetting(Protocol):
    """A sender whose destination can forget persons."""

    def forget(self, request: ErasureRequest) -> None:
        """Forget persons, and return when that is done, or when another system has accepted the request.

        It may be called again for the same request.  Raises as `Sender.send` does.
        """


@attrs.frozen
class ErasingSender:
    """Passes requests to a sender that can forget, and messages to the one that sends them."""

    _forgetting: Sender
    _sender: Sender

    def send(self, batch: DeliveryBatch) -> Sequence[MessageRefused]:
        """See `Sender.send`."""
        if batch.messages[0].call != DELETE:
            return self._sender.send(batch)
        if not isinstance(self._forgetting, Forgetting):
            raise PermanentError(detail=NOT_SUPPORTED, divisible=False)
        for message in batch.messages:
            self._forgetting.forget(decode_request(message.payload))
        return ()

    def close(self) -> None:
        """See `Sender.close`."""
        self._sender.close()


@attrs.frozen
class ErasingCursorKeeper(ErasingSender):
    """The same, to a destination that keeps cursors."""

    _cursor_keeper: CursorKeepingSender

    def cursors(self) -> Mapping[str, str]:
        """See `CursorKeepingSender.cursors`."""
        return self._cursor_keeper.cursors()


def erasing(forgetting: Sender, sender: Sender) -> Sender:
    """Return a sender that passes requests to the first, and messages to the second."""
    if isinstance(sender, CursorKeepingSender):
        return ErasingCursorKeeper(forgetting, sender, sender)
    return ErasingSender(forgetting, sender)


@attrs.frozen(kw_only=True)
class Erasure:
    """A request to one destination, and its state.  `request` is None once it is settled."""

    number: int
    destination: str
    status: ErasureStatus
    detail: str
    request: ErasureRequest | None


class StoredErasures(ABC):
    """The part of the state about requests to forget."""

    @abstractmethod
    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]: ...

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]: ...

    def ask_to_forget(self, destination: str, request: ErasureRequest) -> None:
        """Ask a destination to forget persons; a request that has failed is made again, any other is not repeated."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO erasures (job, destination, request, status) VALUES (?, ?, ?, 'waiting')"
                " ON CONFLICT DO UPDATE SET request = excluded.request, status = 'waiting', detail = ''"
                " WHERE status = 'failed'",
                (request.id, destination, encode_request(request)),
            )

    def erasures(self, job: str) -> list[Erasure]:
        """Return the requests of a job."""
        return [_as_erasure(row) for row in self._read(f"SELECT {_COLUMNS} FROM erasures WHERE job = ?", job)]

    def next_erasure(self, destination: str) -> Erasure | None:
        """Return the first request that waits for a destination."""
        query = f"SELECT {_COLUMNS} FROM erasures WHERE destination = ? AND status = 'waiting' ORDER BY number LIMIT 1"
        return next(map(_as_erasure, self._read(query, destination)), None)

    def settle_erasure(self, erasure: Erasure, status: ErasureStatus, detail: str = "") -> None:
        """Settle a request, and delete what is kept here of its persons for the destination.

        If it has failed, the request stays, to be made again.
        """
        assert erasure.request is not None
        with self._transaction() as connection:
            _delete_kept(connection, erasure.destination, erasure.request)
            connection.execute(
                "UPDATE erasures SET status = ?, detail = ?, request = iif(? = 'failed', request, NULL)"
                " WHERE number = ?",
                (str(status), detail, str(status), erasure.number),
            )
            state_rows.forget_attempts(connection, erasure.destination, ERASURE)
            if status is ErasureStatus.DONE:
                connection.execute(
                    "UPDATE destinations SET failures = 0, failing_since = NULL, next_try_at = NULL WHERE name = ?",
                    (erasure.destination,),
                )

    def count_kept(self, subjects: Sequence[Subject], source: str | None) -> int:
        """Return how many dead letters and held messages of persons there are."""
        request = ErasureRequest(id="", subjects=tuple(subjects), source=source, requested_at=datetime.now(UTC))
        rows = [*self._read(_DEAD, ALL), *self._read(_HELD, ALL)]
        return sum(_is_theirs(request, *rest) for _, *rest in rows)


ALL = None


def _delete_kept(connection: sqlite3.Connection, destination: str, request: ErasureRequest) -> None:
    values = (destination,)
    dead = [number for number, *rest in connection.execute(_DEAD, values) if _is_theirs(request, *rest)]
    state_rows.delete_dead(connection, destination, dead)
    held = [number for number, *rest in connection.execute(_HELD, values) if _is_theirs(request, *rest)]
    connection.executemany("DELETE FROM held_messages WHERE number = ?", [(number,) for number in held])
    connection.execute(
        "DELETE FROM held_users WHERE destination = ? AND NOT EXISTS (SELECT 1 FROM held_messages WHERE holder = id)",
        values,
    )
    # A replay of nothing but the messages of the person has nothing left to send.
    for subject in request.subjects:
        connection.execute(
            "UPDATE replays SET user = NULL, position = last, finished_at = coalesce(finished_at, ?)"
            " WHERE destination = ? AND user = ?",
            (request.requested_at.timestamp(), destination, subject.id),
        )


def _is_theirs(request: ErasureRequest, source: str, payload: bytes) -> bool:
    message = msgspec.json.decode(payload)
    return request.source in (None, source) and not set(request.subjects).isdisjoint(subjects_of(message))


_DEAD = "SELECT id, source, payload FROM dead_letters WHERE destination = coalesce(?, destination)"
_HELD = """
    SELECT number, source, payload FROM held_messages JOIN held_users ON id = holder
    WHERE destination = coalesce(?, destination)
"""


def encode_request(request: ErasureRequest) -> bytes:
    """Return a request as JSON text."""
    names = request.pseudonyms
    return encode_json(
        {
            "id": request.id,
            "subjects": [(one.kind, one.id) for one in request.subjects],
            "source": request.source,
            "requestedAt": request.requested_at.timestamp(),
            "pseudonyms": None if names is None else [names[one] for one in request.subjects],
        }
    )


def decode_request(text: bytes) -> ErasureRequest:
    """Read the text of a request."""
    fields = msgspec.json.decode(text)
    subjects = tuple(Subject(*one) for one in fields["subjects"])
    names = fields["pseudonyms"]
    return ErasureRequest(
        id=fields["id"],
        subjects=subjects,
        source=fields["source"],
        requested_at=datetime.fromtimestamp(fields["requestedAt"], UTC),
        pseudonyms=None if names is None else dict(zip(subjects, names, strict=True)),
    )


def as_message(erasure: Erasure) -> FedMessage:
    """Return a request as a queue passes it to a sender."""
    request = erasure.request
    assert request is not None
    text = encode_request(request)
    return FedMessage(erasure.number, request.source or "", "", DELETE, request.id, request.requested_at, text)


def _as_erasure(row: tuple[Any, ...]) -> Erasure:
    number, destination, status, detail, request = row
    decoded = None if request is None else decode_request(request)
    return Erasure(number=number, destination=destination, status=ErasureStatus(status), detail=detail, request=decoded)


_COLUMNS = "number, destination, status, detail, request"
