"""Historical messages: documents of a file, taken through the same intake as any request, with their times kept.

What differs from a request follows from its being history:

- Times are those of the file: `timestamp`, else `originalTimestamp`, else `receivedAt`.  Nothing is corrected by
  `sentAt`, which is kept: an archive's times are corrected already, and are of long ago.  A message without a time, or
  with one that cannot be read, is rejected, since no time of reception can stand for it.
- A message without `messageId` gets one that is made of its content, and, where the same content came before in its
  file, of how often it did.  So it is the same at the next attempt, and for a copy of the file, however that is called;
  and two clicks in one second are two.  (By its place in the file, a file with one line more in front would be
  imported twice.)  What is the same in two files counts as the same, as exports overlap.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256

import attrs
import msgspec

from trackcore import (
    Call,
    Envelope,
    FoundBy,
    Invalid,
    InvalidRequest,
    Limits,
    NewMessageId,
    Origin,
    Outcome,
    RejectedRecord,
    Resolver,
    Sink,
    Source,
)
from trackcore.blanks import is_blank
from trackcore.intake import process
from trackcore.jsontext import BYTE_ORDER_MARK, clean_text, encode_json, parse
from trackcore.request import Request, parse_request, peek
from trackcore.timestamps import truncate_to_milliseconds
from trackcore_server.documents import Document


@attrs.define
class ImportCounts:
    """What became of the messages of an import; `rejected` is by reason code."""

    stored: int = 0
    duplicates: int = 0
    rejected: Counter[str] = attrs.field(factory=Counter)
    warnings: Counter[str] = attrs.field(factory=Counter)

    @property
    def messages(self) -> int:
        """How many there were."""
        return self.stored + self.duplicates + self.rejected.total()


@attrs.define
class Occurrences:
    """How often each content of messages without an id has come in a file.

    Contents are known by 64 bits of their digest, to save memory: about 100 bytes a message.  If two contents shared
    them, the second would count as come again; its id is made of its content all the same.
    """

    _counts: dict[int, int] = attrs.field(init=False, factory=dict)

    def next(self, digest: bytes) -> int:
        """Count a content once more and return how often it had come before."""
        key = int.from_bytes(digest[:8], "big")
        before = self._counts.get(key, 0)
        self._counts[key] = before + 1
        return before


@attrs.frozen(kw_only=True)
class Importer:
    """Stores the messages of documents as those of one source.

    `call` is what single messages and those of an array are; without it each must say its `type`.
    """

    source: Source
    resolver: Resolver
    sink: Sink
    limits: Limits
    call: Call | None
    counts: ImportCounts = attrs.field(factory=ImportCounts)

    def skip(self, documents: Iterable[Document], occurrences: Occurrences) -> None:
        """Count the messages without an id of documents that an earlier attempt has stored."""
        nameless = (document for document in documents if b'"batch"' in document.text or not _has_id(document.text))
        for _ in self._parts(nameless, lambda _error, _payload: None, occurrences):
            pass

    def store(self, documents: Sequence[Document], occurrences: Occurrences) -> None:
        """Store what the documents of a file hold, in transactions of bounded size.

        Raises:
            SinkUnavailable: not all of it was stored; what was will be found to be duplicates.
        """
        received_at = truncate_to_milliseconds(datetime.now(UTC))
        envelopes: list[Envelope] = []
        rejected: list[RejectedRecord] = []

        def reject(error: Invalid, payload: bytes) -> None:
            rejected.append(_rejected_record(self.source, received_at, error, payload[: self.limits.request_bytes]))

        for part, message_id in self._parts(documents, reject, occurrences):
            intake = process(
                part,
                origin=Origin(),
                source=self.source,
                write_key=None,
                resolver=self.resolver,
                received_at=received_at,
                new_message_id=message_id,
                limits=attrs.evolve(self.limits, batch_messages=sys.maxsize),
                found_by=FoundBy.FILE,
                is_history=True,
            )
            envelopes.extend(intake.envelopes)
            for rejection in intake.rejections:
                # Received again from among the rejected, it would be corrected by its `sentAt`.
                reject(rejection.error, _without_sent_at(rejection.payload))
            if len(envelopes) + len(rejected) >= _TRANSACTION_MESSAGES:
                self._commit(envelopes, rejected)
        self._commit(envelopes, rejected)

    def _commit(self, envelopes: list[Envelope], rejected: list[RejectedRecord]) -> None:
        outcomes = self.sink.store(envelopes, rejected=rejected)
        self.counts.stored += outcomes.count(Outcome.STORED)
        self.counts.duplicates += outcomes.count(Outcome.DUPLICATE)
        self.counts.rejected.update(record.code for record in rejected)
        self.counts.warnings.update(caution.code for envelope in envelopes for caution in envelope.cautions)
        envelopes.clear()
        rejected.clear()

    def _parts(
        self, documents: Iterable[Document], reject: Callable[[Invalid, bytes], None], occurrences: Occurrences
    ) -> Iterator[tuple[Request, NewMessageId]]:
        """Take the documents apart; single messages that follow each other are one request."""
        singles: list[Request] = []
        for document in documents:
            try:
                request, is_single = self._request(document)
            except InvalidRequest as error:
                reject(error, document.text)
                continue
            if is_single:
                singles.append(request)
            else:
                yield from _with_ids(_joined(singles, self.call), occurrences)
                singles = []
                yield from _with_ids(request, occurrences)
        yield from _with_ids(_joined(singles, self.call), occurrences)

    def _request(self, document: Document) -> tuple[Request, bool]:
        """Take a document apart: a batch, an array of messages, or a single message."""
        limits = attrs.evolve(self.limits, request_bytes=sys.maxsize)
        text = document.text
        if document.is_only and text.removeprefix(BYTE_ORDER_MARK).startswith(b"["):
            parse(_raw_array, clean_text(text))  # so that what is no JSON is told at its own byte
            batch = b'{"batch":%s}' % text.removeprefix(BYTE_ORDER_MARK)
            return attrs.evolve(parse_request(batch, "batch", limits), call=self.call), False
        if b'"batch"' in text and _is_batch(text):
            return parse_request(text, "batch", limits), False
        return parse_request(text, self.call or "track", limits), True


def _is_batch(text: bytes) -> bool:
    try:
        return "batch" in parse(_raw_fields, clean_text(text))[0]
    except msgspec.ValidationError:  # no object
        return False


def _joined(requests: Sequence[Request], call: Call | None) -> Request:
    """Make one request of those of single messages."""
    items = tuple(request.items[0] for request in requests)
    received = None
    if any(request.received for request in requests):
        received = tuple(bytes((request.received or request.items)[0]) for request in requests)
    return Request(call=call, items=items, received=received)


def _with_ids(request: Request, occurrences: Occurrences) -> Iterator[tuple[Request, NewMessageId]]:
    """Divide a request so that each message without an id has a maker of ids to itself."""
    items = [bytes(item) for item in request.items]
    received = request.received or items
    start = 0
    for index, item in enumerate(items):
        if not _has_id(item):
            if start < index:
                yield _section(request, items, received, start, index), _no_id
            message_id = _derived_id(request, item, occurrences)
            yield _section(request, items, received, index, index + 1), partial(str, message_id)
            start = index + 1
        elif index + 1 - start == _TRANSACTION_MESSAGES:
            yield _section(request, items, received, start, index + 1), _no_id
            start = index + 1
    if start < len(items):
        yield _section(request, items, received, start, len(items)), _no_id


def _section(request: Request, items: Sequence[bytes], received: Sequence[bytes], start: int, end: int) -> Request:
    kept = tuple(received[start:end]) if request.received else None
    return attrs.evolve(request, items=tuple(items[start:end]), received=kept)


def _no_id() -> str:
    raise AssertionError("every message has an id here")


def _without_sent_at(item: bytes) -> bytes:
    if b'"sentAt"' not in item:
        return item
    try:
        fields = _raw_fields.decode(item)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return item
    return item if fields.pop("sentAt", None) is None else encode_json(fields)


def _has_id(item: bytes) -> bool:
    message_id = peek(item, "messageId")
    return not is_blank(message_id) if isinstance(message_id, str) else bool(message_id)


def _derived_id(request: Request, item: bytes, occurrences: Occurrences) -> str:
    """Make an id of what a message says: of its values, not of its spaces and not of the order of its fields.

    `sentAt` counts for nothing: it never has, and the ids of earlier imports are to stay as they are.
    """
    item = _without_sent_at(item)
    try:
        content = msgspec.json.encode(msgspec.json.decode(item), order="deterministic")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        content = item
    shared = msgspec.json.encode([request.call, request.context, request.integrations], order="deterministic")
    digest = sha256(shared + content)
    if before := occurrences.next(digest.digest()):
        digest.update(b" %d" % before)
    return f"import-{digest.hexdigest()[:_ID_DIGITS]}"


def _rejected_record(source: Source, received_at: datetime, error: Invalid, payload: bytes) -> RejectedRecord:
    return RejectedRecord(
        source=source.name,
        received_at=received_at,
        code=error.reason,
        message=error.detail,
        path=error.path,
        payload=payload,
    )


_ID_DIGITS = 40
_TRANSACTION_MESSAGES = 2_000
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_array = msgspec.json.Decoder(list[msgspec.Raw])
