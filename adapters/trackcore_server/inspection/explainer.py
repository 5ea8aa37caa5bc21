"""Explaining what lies in a log, by the configuration of today: this finds what the core tells its stories from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

import attrs

from trackcore import (
    Call,
    Envelope,
    InvalidRequest,
    JSONObject,
    MessageExplanation,
    MessageWarning,
    Origin,
    QuarantineExplanation,
    RejectionExplanation,
    Resolver,
    Source,
    SourceRegistry,
    StoredMessage,
    StoredQuarantined,
    StoredRejected,
    WriteKey,
    explain_message,
    explain_quarantined,
    explain_rejection,
)
from trackcore.explanation.explain import explain_error
from trackcore.intake import process
from trackcore.origins import find_source, write_keys_in_body
from trackcore.text.jsontext import parse_value
from trackcore.timestamps import truncate_to_milliseconds
from trackcore.wire.request import hint_of_write_key, parse_request
from trackcore_server.config.configuration import Configuration
from trackcore_server.files.documents import Document
from trackcore_server.files.validation import read_request

NEW_ID = "(made by the server)"

_NO_SOURCE = Source(name="(no source is configured)")
_DECISION = ("destination", "chosen", "because", "options")

FindDuplicate = Callable[[str, str], int | None]
"""Gives the sequence number of a stored message by its source and id, None where there is none."""


@attrs.frozen(kw_only=True)
class Unsent:
    """What would become of one message that was never sent: its place in its document, its story, and its text."""

    index: int | None
    story: MessageExplanation | RejectionExplanation
    payload: bytes


@attrs.define
class Explainer:
    """Explains by the configuration of today; what was stored stands where they disagree."""

    configuration: Configuration
    _of_source: Mapping[str, Resolver] = attrs.field(init=False)
    _of_others: Resolver = attrs.field(init=False)
    _book: SourceRegistry = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        destinations = self.configuration.destinations
        self._of_others = Resolver(destinations)
        self._of_source = {
            source.name: Resolver(
                destination
                for destination in destinations
                if source.destinations is None or destination.name in source.destinations
            )
            for source in self.configuration.sources
        }
        self._book = SourceRegistry(self.configuration.sources)

    def message(self, stored: StoredMessage) -> MessageExplanation:
        """Tell the story of a stored message."""
        return explain_message(
            stored.message,
            source=stored.source,
            destinations=stored.destinations,
            warnings=[MessageWarning(**warning) for warning in stored.warnings],
            resolver=self.resolver(stored.source),
            inherited=stored.inherited,
            found_by=stored.found_by,
        )

    def decisions(self, stored: StoredMessage) -> list[JSONObject]:
        """Give `{destination, chosen, because, options?}` of each destination of the message's source."""
        told = (story.as_json() for story in self.message(stored).destinations)
        return [{name: story[name] for name in _DECISION if name in story} for story in told]

    def rejected(self, stored: StoredRejected) -> RejectionExplanation:
        """Tell the story of a rejected message, or of a refused request."""
        return explain_rejection(
            code=stored.code,
            detail=stored.message,
            path=stored.path,
            payload=stored.payload,
            batch=stored.batch,
            source=stored.source,
            limits=self.configuration.limits,
        )

    def quarantined(self, stored: StoredQuarantined) -> QuarantineExplanation:
        """Explain a quarantined request."""
        limits = self.configuration.limits
        try:
            request = parse_request(stored.payload, stored.endpoint, limits)
            keys = (key for key, _ in write_keys_in_body(request, limits))
            hint = "" if stored.write_key is not None else hint_of_write_key(stored.payload, request, limits)
            return explain_quarantined(stored.write_key, self._book, keys, hint)
        except InvalidRequest:  # the limits were larger when it came
            return explain_quarantined(stored.write_key, self._book)

    def unsent(
        self, document: Document, *, call: Call | None, source: str | None, find_duplicate: FindDuplicate
    ) -> Iterator[Unsent]:
        """Tell what would become of the messages of a document, were it sent now.

        Args:
            document: a message, a batch, or an array of messages.
            call: what single messages are; without it each must say its `type`.
            source: whose messages they are; without it the write key tells, else the first source is taken.
            find_duplicate: looks a message up in the log.
        """
        limits = self.configuration.limits
        try:
            reading = read_request(document, call, limits)
        except InvalidRequest as error:
            story = explain_error(error, document.text, source=source, limits=limits)
            yield Unsent(index=None, story=story, payload=document.text)
            return
        known, write_key, _ = find_source(reading.request, Origin(), self._book, reading.limits)
        found, because = self._source(source, known, write_key)
        intake = process(
            reading.request,
            origin=Origin(),
            source=found,
            write_key=write_key,
            resolver=self.resolver(found.name),
            received_at=truncate_to_milliseconds(datetime.now(UTC)),
            new_message_id=lambda: NEW_ID,
            limits=reading.limits,
        )
        rejections = {rejection.index: rejection for rejection in intake.rejections}
        envelopes = iter(intake.envelopes)
        for place in range(len(intake.envelopes) + len(rejections)):
            index = None if reading.is_single else place
            if place in rejections:
                refused = rejections[place]
                story = explain_error(refused.error, refused.payload, source=found.name, limits=limits)
                yield Unsent(index=index, story=story, payload=refused.payload)
            else:
                envelope = next(envelopes)
                duplicate_of = find_duplicate(found.name, envelope.message_id)
                told = attrs.evolve(self._envelope(envelope, duplicate_of), source_because=because)
                yield Unsent(index=index, story=told, payload=envelope.payload)

    def _envelope(self, envelope: Envelope, duplicate_of: int | None) -> MessageExplanation:
        return explain_message(
            parse_value(envelope.payload),
            source=envelope.source,
            destinations=envelope.destinations,
            warnings=envelope.warnings,
            resolver=self.resolver(envelope.source),
            inherited=envelope.inherited,
            found_by=envelope.found_by,
            duplicate_of=duplicate_of,
        )

    def _source(self, name: str | None, known: Source | None, write_key: WriteKey | None) -> tuple[Source, str]:
        """Find whose messages are meant, and tell how: by name, by write key, else the first source there is."""
        if name is not None:
            return Source(name=name), "it was asked for"
        if known is not None:
            return known, "the `writeKey` in the text belongs to it"
        missing = "no write key was given" if write_key is None else "the write key belongs to no source"
        return next(iter(self.configuration.sources), _NO_SOURCE), f"{missing}; it is taken as an example"

    def resolver(self, source: str) -> Resolver:
        """Give what decides on the messages of a source."""
        return self._of_source.get(source, self._of_others)
