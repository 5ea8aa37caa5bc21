"""Intake: from the bytes of a request to envelopes, through the pipeline of its source (see `trackcore.origins`)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import attrs

from trackcore.credentials import SourceRegistry
from trackcore.integrations import Destination, as_destinations
from trackcore.limits import DEFAULT_LIMITS, Limits
from trackcore.origins import Origin, find_source
from trackcore.pipeline import Pipeline
from trackcore.plans.enforcement import PlanInForce
from trackcore.privacy.rules import PrivacyRules
from trackcore.reception import IntakeResult, Reception
from trackcore.routing import resolvers_for
from trackcore.timestamps import truncate_to_milliseconds
from trackcore.typing import Endpoint, NewMessageId
from trackcore.wire.request import hint_of_write_key, parse_request


@attrs.frozen(kw_only=True)
class Pipelines:
    """A pipeline for each source.  Raises `ValueError` if a source names a destination that does not exist.

    `plans` are tracking plans by the name of their source, and `privacy` are the rules about personal data.  One that
    names a source that does not exist is a `ValueError` too.
    """

    sources: SourceRegistry
    new_message_id: NewMessageId
    destinations: tuple[Destination, ...] = attrs.field(default=(), converter=as_destinations)
    limits: Limits = DEFAULT_LIMITS
    plans: Mapping[str, PlanInForce] = attrs.field(factory=dict)
    privacy: Mapping[str, PrivacyRules] = attrs.field(factory=dict)
    _by_source: Mapping[str, Pipeline] = attrs.field(init=False, repr=False)

    @_by_source.default
    def _make(self) -> Mapping[str, Pipeline]:
        for name, plan in self.plans.items():
            for target in (name, *filter(None, plan.controls.forwards)):
                if self.sources.by_name(target) is None:
                    raise ValueError(f"the plan of {name!r} needs a source named {target!r}, and there is none")
        for name in self.privacy:
            if self.sources.by_name(name) is None:
                raise ValueError(f"the rules of {name!r} need a source of that name, and there is none")
        resolvers = resolvers_for(self.sources.sources, self.destinations)
        return {
            source.name: Pipeline(
                source=source,
                resolver=resolvers[source.name],
                new_message_id=self.new_message_id,
                limits=self.limits,
                plan=self.plans.get(source.name),
                privacy=self.privacy.get(source.name),
            )
            for source in self.sources.sources
        }

    def of(self, source: str) -> Pipeline:
        """Return the pipeline of a source, by the source's name.  Raises `KeyError`."""
        return self._by_source[source]


def receive(
    body: bytes, *, pipelines: Pipelines, endpoint: Endpoint, origin: Origin, received_at: datetime
) -> IntakeResult:
    """Parse a request body, find its source, and run the source's pipeline.  `received_at` is cut to milliseconds.

    Raises:
        InvalidRequest: the request body is unusable as a whole.
        TypeError, ValueError: the endpoint is unknown, or `new_message_id` returned something that is not a message id.
    """
    received_at = truncate_to_milliseconds(received_at)
    limits = pipelines.limits
    request = parse_request(body, endpoint, limits, decode=True)
    source, write_key, found_by = find_source(request, origin, pipelines.sources, limits)
    if source is None:
        hint = "" if write_key is not None else hint_of_write_key(body, request, limits)
        return IntakeResult(source=None, write_key=write_key, received_at=received_at, hint=hint)
    reception = Reception(origin=origin, received_at=received_at, write_key=write_key, found_by=found_by)
    return pipelines.of(source.name).run(request, reception)
