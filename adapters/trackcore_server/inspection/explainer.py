"""Explanations by the current configuration: collects what the explain functions of the core need."""

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
    Pipeline,
    QuarantineExplanation,
    Reception,
    Rejection,
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
    resolvers_for,
)
from trackcore.explanation import explain_error
from trackcore.support import find_source, truncate_to_milliseconds, write_keys_in_body
from trackcore.text import parse_value
from trackcore.wire import hint_of_write_key, parse_request
from trackcore_server.config.configuration import Configuration
from trackcore_server.config.privacy_rules import privacy_rules
from trackcore_server.files.documents import Document, read_request

NEW_ID = "(made by the server)"

_NO_SOURCE = Source(name="(no source is configured)")
_DECISION = ("destination", "chosen", "because", "options")

FindDuplicate = Callable[[str, str], int | None]
"""Returns the sequence number of a stored message by its source and id, None if there is none."""


@attrs.frozen(kw_only=True)
class Unsent:
    """One message that was never sent: its index in its document, its explanation as if it were sent, and its text."""

    index: int | None
    explanation: MessageExplanation | RejectionExplanation
    payload: bytes


@attrs.define
class Explainer:
    """Explains by the current configuration; a stored decision counts where they disagree."""

    configuration: Configuration
    _resolvers: Mapping[str, Resolver] = attrs.field(init=False)
    _other_resolver: Resolver = attrs.field(init=False)
    _sources: SourceRegistry = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        destinations = self.configuration.destinations
        self._other_resolver = Resolver(destinations)
        self._resolvers = resolvers_for(self.configuration.sources, destinations)
        self._sources = SourceRegistry(self.configuration.sources)

    def message(self, stored: StoredMessage) -> MessageExplanation:
        """Explain a stored message."""
        return explain_message(
            stored.message,
            source=stored.source,
            destinations=stored.destinations,
            warnings=[MessageWarning(**warning) for warning in stored.warnings],
            resolver=self.resolver(stored.source),
            inherited=stored.inherited,
            found_by=stored.found_by,
            retry_count=stored.retry_count,
        )

    def decisions(self, stored: StoredMessage) -> list[JSONObject]:
        """Return `{destination, chosen, because, options?}` of each destination of the message's source."""
        decisions = (destination.as_json() for destination in self.message(stored).destinations)
        return [{name: decision[name] for name in _DECISION if name in decision} for decision in decisions]

    def rejected(self, stored: StoredRejected) -> RejectionExplanation:
        """Explain a rejected message, or a refused request."""
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
            return explain_quarantined(stored.write_key, self._sources, keys, hint)
        except InvalidRequest:  # the limits were larger when it came
            return explain_quarantined(stored.write_key, self._sources)

    def unsent(
        self, document: Document, *, call: Call | None, source: str | None, find_duplicate: FindDuplicate
    ) -> Iterator[Unsent]:
        """Explain the messages of a document as if it were sent now; see `read_request`.

        `source` is the name of their source; without it the write key decides, else the first source is used.
        """
        limits = self.configuration.limits
        try:
            reading = read_request(document, call, limits)
        except InvalidRequest as error:
            explanation = explain_error(error, document.text, source=source, limits=limits)
            yield Unsent(index=None, explanation=explanation, payload=document.text)
            return
        known, write_key, _ = find_source(reading.request, Origin(), self._sources, reading.limits)
        found, because = self._source(source, known, write_key)
        pipeline = Pipeline(
            source=found,
            resolver=self.resolver(found.name),
            new_message_id=lambda: NEW_ID,
            limits=reading.limits,
            privacy=privacy_rules(self.configuration).get(found.name),
        )
        received_at = truncate_to_milliseconds(datetime.now(UTC))
        intake = pipeline.run(reading.request, Reception(received_at=received_at, write_key=write_key))
        for place, result in intake.by_index():
            index = None if reading.is_single else place
            if isinstance(result, Rejection):
                rejected = explain_error(result.error, result.payload, source=found.name, limits=limits)
                yield Unsent(index=index, explanation=rejected, payload=result.payload)
            else:
                duplicate_of = find_duplicate(found.name, result.message_id)
                # No request names the source here, so its reason is that of `_source`.
                accepted = attrs.evolve(self._envelope(result, duplicate_of), source_because=because)
                yield Unsent(index=index, explanation=accepted, payload=result.payload)

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
        """Return the source of the messages, and the reason: by name, by write key, else the first one configured."""
        if name is not None:
            return Source(name=name), "it was asked for"
        if known is not None:
            return known, "the `writeKey` in the text belongs to it"
        missing = "no write key was given" if write_key is None else "the write key belongs to no source"
        return next(iter(self.configuration.sources), _NO_SOURCE), f"{missing}; it is used as an example"

    def resolver(self, source: str) -> Resolver:
        """Return the resolver of a source; all destinations for one that is not configured."""
        return self._resolvers.get(source, self._other_resolver)
