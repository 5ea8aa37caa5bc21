"""The exporter: it serves the metrics of a server at an address of their own."""

from __future__ import annotations

import logging

from prometheus_client import start_http_server
from trackcore_metrics import make_registry

from trackcore_server.config.configuration import Configuration
from trackcore_server.config.units import parse_bind
from trackcore_server.monitoring.server_metrics import ServerMetrics
from trackcore_server.process.shared_cells import SharedMemory
from trackcore_server.process.signals import StopFlag

log = logging.getLogger("trackcore.metrics")


class Exporter:
    """Serves the metrics over HTTP until it is stopped."""

    def __init__(self, configuration: Configuration, memory: SharedMemory) -> None:
        assert configuration.metrics.bind is not None
        self._host, self._port = parse_bind(configuration.metrics.bind)
        self._registry = make_registry(ServerMetrics(configuration, memory).values)
        self._stopping = StopFlag()

    def stop(self) -> None:
        """Make `run` return; may be called from a signal handler or another thread."""
        self._stopping.set()

    def run(self) -> None:
        """Serve until `stop` is called."""
        try:
            server, thread = start_http_server(self._port, self._host, self._registry)
        except OSError as error:
            log.error("cannot serve the metrics on %s:%d: %s", self._host, self._port, error.strerror)  # noqa: TRY400
            return
        host = f"[{self._host}]" if ":" in self._host else self._host
        log.info("Metrics: http://%s:%d/metrics", host, server.server_port)
        self._stopping.wait()
        server.shutdown()
        server.server_close()
        thread.join()
