"""The process that serves the metrics of a server, to be run by `python -m`."""

from __future__ import annotations

from trackcore_server.config.configuration import Configuration
from trackcore_server.monitoring.exporter import Exporter
from trackcore_server.process.children import run_child
from trackcore_server.process.shared_cells import SharedMemory
from trackcore_server.process.stderr_log import log_to_stderr


def make_run(configuration: Configuration, memory: SharedMemory) -> Exporter:
    """Make the exporter of a server."""
    log_to_stderr(configuration.server.log, configuration.server.log_level)
    return Exporter(configuration, memory)


if __name__ == "__main__":
    run_child(make_run)
