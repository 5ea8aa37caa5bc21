"""Historical messages: documents of a file, run through the same pipeline as any request, with their times kept.

The differences from a request:

- Times are those of the file: `timestamp`, else `originalTimestamp`, else `receivedAt`.  Nothing is corrected by
  `sentAt`, which is kept: the times of an archive are corrected already.  A message without a time, or with one that
  cannot be parsed, is rejected, since the time of reception would be wrong by years.
- A message without `messageId` gets one derived from its content and, if the same content came before in its file, from
  how often it did.  So it is the same at the next attempt, and for a copy of the file under any name; and two clicks in
  one second are two messages.  (With an id from its position, a file with one more line in front would be imported
  twice.)  Equal messages in two files count as one, since exports overlap.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from trackcore import (
    Call,
    Envelope,
    Invalid,
    InvalidRequest,
    Limits,
    Outcome,
    RejectedRecord,
    Resolver,
    Sink,
    Source,
)
from trackcore.privacy import PrivacyRules
from trackcore.support import truncate_to_milliseconds
from trackcore.text import encode_json, is_blank, raw_fields, replace_surrogates
from trackcore.wire import Request, peek
from trackcore_server.files.documents import Document, read_request
from trackcore_server.files.import_records import NOT_KEPT, examine_history, extra_fields, import_record

if TYPE_CHECKING:
    from hashlib import _Hash as Hash


@attrs.define
class ImportCounts:
    """The outcomes of the messages of an import; `rejected` and `warnings` are by code."""

    stored: int = 0
    duplicates: int = 0
    rejected: Counter[str] = attrs.field(factory=Counter)
    warnings: Counter[str] = attrs.field(factory=Counter)

    @property
    def messages(self) -> int:
        """How many messages there were."""
        return self.stored + self.duplicates + self.rejected.total()


@attrs.define
class Occurrences:
    """How often each content of messages without an id has come in a file.

    A content is identified by 64 bits of its digest, to save memory: about 100 bytes a message.  If two contents shared
    them, the second would count as a repetition; its id is derived from its content all the same.
    """

    _counts: dict[int, int] = attrs.field(init=False, factory=dict)

    def next(self, digest: bytes) -> int:
        """Count a content and return how often it had come before."""
        key = int.from_bytes(digest[:8], "big")
        before = self._counts.get(key, 0)
        self._counts[key] = before + 1
        return before


@attrs.frozen(kw_only=True)
class Importer:
    """Stores the messages of documents as those of one source.

    `call` is the call of single messages and of those in an array; without it each must contain its `type`.
    """

    source: Source
    resolver: Resolver
    sink: Sink
    limits: Limits
    call: Call | None
    privacy: PrivacyRules = attrs.field(factory=PrivacyRules)
    counts: ImportCounts = attrs.field(factory=ImportCounts)

    def skip(self, documents: Iterable[Document], occurrences: Occurrences) -> None:
        """Count the messages without an id in documents that an earlier attempt has stored."""
        without_id = (document for document in documents if b'"batch"' in document.text or not _has_id(document.text))
        for _ in self._parts(without_id, lambda _error, _payload: None, occurrences):
            pass

    def store(self, documents: Sequence[Document], occurrences: Occurrences) -> None:
        """Store the messages in the documents of a file, in transactions of bounded size.

        Raises `SinkUnavailable` if not all of them were stored; at the next attempt the stored ones are duplicates.
        """
        received_at = truncate_to_milliseconds(datetime.now(UTC))
        envelopes: list[Envelope] = []
        rejected: list[RejectedRecord] = []

        def reject(error: Invalid, payload: bytes, extra: bytes = NOT_KEPT) -> None:
            payload, extra = (self.privacy.redact(text, received_at) for text in (payload, extra))
            record = import_record(
                error, payload, extra, source=self.source, received_at=received_at, limits=self.limits
            )
            rejected.append(record)

        for part in self._parts(documents, reject, occurrences):
            intake = examine_history(
                part.request,
                source=self.source,
                resolver=self.resolver,
                received_at=received_at,
                message_id=part.message_id,
                limits=self.limits,
                privacy=self.privacy,
            )
            envelopes.extend(intake.envelopes)
            for rejection in intake.rejections:
                extra = extra_fields(part.batch_fields, call=part.request.call, message_id=part.message_id)
                reject(rejection.error, rejection.payload, extra)
            if len(envelopes) + len(rejected) >= _TRANSACTION_MESSAGES:
                self._commit(envelopes, rejected)
        self._commit(envelopes, rejected)

    def _commit(self, envelopes: list[Envelope], rejected: list[RejectedRecord]) -> None:
        outcomes = self.sink.store(envelopes, rejected=rejected)
        self.counts.stored += outcomes.count(Outcome.STORED)
        self.counts.duplicates += outcomes.count(Outcome.DUPLICATE)
        self.counts.rejected.update(record.code for record in rejected)
        self.counts.warnings.update(warning.code for envelope in envelopes for warning in envelope.warnings)
        envelopes.clear()
        rejected.clear()

    def _parts(
        self, documents: Iterable[Document], reject: Callable[[Invalid, bytes], None], occurrences: Occurrences
    ) -> Iterator[_Part]:
        """Yield the parts of the documents; consecutive single messages are one request."""
        limits = attrs.evolve(self.limits, request_bytes=sys.maxsize)
        # A large one is rejected as a message, like one of a batch, so that it is counted among those without an id.
        single = attrs.evolve(limits, message_bytes=sys.maxsize)
        singles: list[Request] = []
        for document in documents:
            try:
                reading = read_request(document, self.call, limits, single)
            except InvalidRequest as error:
                reject(error, document.text)
                continue
            if reading.is_single:
                singles.append(reading.request)
            else:
                yield from _divided(_joined(singles, self.call), occurrences, self.limits)
                singles = []
                yield from _divided(reading.request, occurrences, self.limits)
        yield from _divided(_joined(singles, self.call), occurrences, self.limits)


def _joined(requests: Sequence[Request], call: Call | None) -> Request:
    """Join the requests of single messages into one."""
    items = tuple(request.items[0] for request in requests)
    received = None
    if any(request.received for request in requests):
        received = tuple(bytes((request.received or request.items)[0]) for request in requests)
    return Request(call=call, items=items, received=received)


@attrs.frozen
class _Part:
    """Messages of one request; `message_id` is for a single message that has none itself."""

    request: Request
    batch_fields: bytes | None
    message_id: str | None


def _divided(request: Request, occurrences: Occurrences, limits: Limits) -> Iterator[_Part]:
    """Divide a request so that each message without an id has a part to itself."""
    items = [bytes(item) for item in request.items]
    received = request.received or items
    # A stored message contains the fields of its batch, so a record may; those that reject all messages may be large.
    batch_fields = request.batch_fields(limits, 1 if request.invalid is None else len(items))
    shared = sha256(_shared_content(request))

    def part(start: int, end: int, message_id: str | None = None) -> _Part:
        kept = tuple(received[start:end]) if request.received else None
        section = msgspec.structs.replace(request, items=tuple(items[start:end]), received=kept)
        return _Part(section, batch_fields, message_id)

    start = 0
    for index, item in enumerate(items):
        if not _has_id(item):
            if start < index:
                yield part(start, index)
            yield part(index, index + 1, _derived_id(shared.copy(), item, occurrences))
            start = index + 1
        elif index + 1 - start == _TRANSACTION_MESSAGES:
            yield part(start, index + 1)
            start = index + 1
    if start < len(items):
        yield part(start, len(items))


def _without_sent_at(item: bytes) -> bytes:
    if b'"sentAt"' not in item:
        return item
    try:
        fields = raw_fields.decode(item)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return item
    return item if fields.pop("sentAt", None) is None else encode_json(fields)


def _has_id(item: bytes) -> bool:
    message_id = peek(item, "messageId")
    return not is_blank(message_id) if isinstance(message_id, str) else bool(message_id)


def _derived_id(digest: Hash, item: bytes, occurrences: Occurrences) -> str:
    """Derive an id from the values of a message, not from its spaces and not from the order of its fields.

    `digest` is that of `_shared_content`, which this updates.  `sentAt` is ignored: it always was, and the ids of
    earlier imports must stay the same.
    """
    item = _without_sent_at(item)
    try:
        content = msgspec.json.encode(msgspec.json.decode(item), order="deterministic")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        content = item
    digest.update(content)
    if before := occurrences.next(digest.digest()):
        digest.update(b" %d" % before)
    return f"import-{digest.hexdigest()[:_ID_DIGITS]}"


def _shared_content(request: Request) -> bytes:
    """Return the fields of the batch on which the ids of its messages depend, whether a limit allows them or not."""
    shared = [request.context, request.integrations]
    if request.invalid is not None:
        shared = [_shared_value(request.shared.get(name, b"null")) for name in ("context", "integrations")]
    return msgspec.json.encode([request.call, *shared], order="deterministic")


def _shared_value(part: bytes | msgspec.Raw) -> Any:
    text = replace_surrogates(bytes(part))
    try:
        value = msgspec.json.decode(text)
        msgspec.json.encode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # it will be rejected under any limits
        return text.decode("utf-8", "replace")
    return value or None if isinstance(value, list) else value


_ID_DIGITS = 40
_TRANSACTION_MESSAGES = 2_000
