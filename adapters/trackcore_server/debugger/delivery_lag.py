"""The lag of each destination, by bounded queries.

The waiting messages are counted up to the end of the log, whatever their destinations: an exact count would have to
read all of them.
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
    """Measures the lag from the log and the state of delivery."""

    _configuration: Configuration
    _log: SqliteBrowser

    def at(self, now: datetime) -> list[JSONObject]:
        """Return `{destination, lagSeconds, waiting, isFailing, deadLetters}` for each destination with a kind."""
        if not self._configuration.delivered:
            return []
        end = self._log.ends()["messages"]
        backend = backend_of(self._configuration)
        feed = backend.feed()
        lags = []
        with closing(open_state(self._configuration, backend)) as state:
            for destination in self._configuration.delivered:
                status = state.status(destination.name, now) or DestinationStatus(name=destination.name)
                position, _ = confirmed(feed, state.mark(destination.name) or Mark())
                oldest = self._log.time_after("messages", position)
                lags.append(
                    {
                        "destination": destination.name,
                        "lagSeconds": 0.0 if oldest is None else round(max((now - oldest).total_seconds(), 0), 1),
                        "waiting": max(end - position, 0),
                        "isFailing": status.failing_since is not None,
                        "deadLetters": status.dead_letters,
                    }
                )
        return lags
