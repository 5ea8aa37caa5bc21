"""How far each destination that is delivered to is behind, told by bounded queries.

What waits is counted up to the end of the log, whatever of it is meant for the destination: an exact count would have
to read all of it.
"""

from __future__ import annotations

from contextlib import closing
from datetime import datetime

import attrs
from trackcore_delivery import DestinationStatus
from trackcore_sqlite import SqliteBrowser

from trackcore import JSONObject, Mark
from trackcore_server.config.configuration import Configuration
from trackcore_server.storage.backends import backend_of
from trackcore_server.storage.delivery_state import open_state
from trackcore_server.storage.log_changes import confirmed


@attrs.frozen
class DeliveryLag:
    """Looks at the log and at the state of delivery."""

    _configuration: Configuration
    _log: SqliteBrowser

    def at(self, now: datetime) -> list[JSONObject]:
        """Give `{destination, lagSeconds, waiting, isFailing}` of each destination that is delivered to."""
        if not self._configuration.delivered:
            return []
        end = self._log.ends()["messages"]
        backend = backend_of(self._configuration)
        feed = backend.feed()
        told = []
        with closing(open_state(self._configuration, backend)) as state:
            for destination in self._configuration.delivered:
                standing = state.standing(destination.name, now) or DestinationStatus(name=destination.name)
                position, _ = confirmed(feed, state.mark(destination.name) or Mark())
                oldest = self._log.time_after("messages", position)
                told.append(
                    {
                        "destination": destination.name,
                        "lagSeconds": 0.0 if oldest is None else round(max((now - oldest).total_seconds(), 0), 1),
                        "waiting": max(end - position, 0),
                        "isFailing": standing.failing_since is not None,
                    }
                )
        return told
