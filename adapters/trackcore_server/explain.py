"""Why a stored message goes to each destination or not, worked out again from the message as it was stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import attrs

from trackcore import Decision, Destination, JSONObject, Resolver, parse_timestamp
from trackcore_server.config import Configuration
from trackcore_server.logs import StoredMessage

CONFIGURATION_CHANGED = "configuration_changed"
"""Said where today's configuration would decide otherwise than was decided when the message came."""


@attrs.define
class Explainer:
    """Explains by the configuration of today; what was stored stands where they disagree."""

    _destinations: tuple[Destination, ...]
    _of_source: Mapping[str, Resolver]
    _of_others: Resolver = attrs.field(init=False)

    @_of_others.default
    def _all(self) -> Resolver:
        return Resolver(self._destinations)

    def explain(self, stored: StoredMessage) -> list[JSONObject]:
        """Give `{destination, chosen, because, options?}` of each destination of the message's source."""
        resolver = self._of_source.get(stored.source, self._of_others)
        resolution = resolver.resolve(stored.message.get("integrations"))
        decisions = [_told(decision, stored) for decision in resolution.at_age(_age(stored.message))]
        known = {decision["destination"] for decision in decisions}
        gone = [name for name in stored.destinations if name not in known]
        return decisions + [{"destination": name, "chosen": True, "because": CONFIGURATION_CHANGED} for name in gone]


def make_explainer(configuration: Configuration) -> Explainer:
    """Make an explainer for what a configuration says now."""
    of_source = {
        source.name: Resolver(
            destination
            for destination in configuration.destinations
            if source.destinations is None or destination.name in source.destinations
        )
        for source in configuration.sources
    }
    return Explainer(configuration.destinations, of_source)


def _told(decision: Decision, stored: StoredMessage) -> JSONObject:
    name = decision.destination.name
    if decision.chosen != (name in stored.destinations):
        return {"destination": name, "chosen": not decision.chosen, "because": CONFIGURATION_CHANGED}
    told = {"destination": name, "chosen": decision.chosen, "because": decision.because}
    return told if decision.options is None else {**told, "options": decision.options}


def _age(message: JSONObject) -> timedelta:
    received_at = parse_timestamp(message.get("receivedAt"))
    timestamp = parse_timestamp(message.get("timestamp"))
    return timedelta() if received_at is None or timestamp is None else received_at - timestamp
