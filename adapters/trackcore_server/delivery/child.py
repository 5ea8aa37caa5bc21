"""The process that delivers for a server, to be run by `python -m`."""

from __future__ import annotations

from trackcore import Metrics
from trackcore_server.config.configuration import Configuration
from trackcore_server.delivery.service import DeliveryRun
from trackcore_server.process.children import run_child
from trackcore_server.process.shared_cells import SharedMemory
from trackcore_server.process.stderr_log import log_to_stderr

SEGMENT = 0
"""The segment of the shared memory in which this process counts."""


def make_run(configuration: Configuration, memory: SharedMemory | None) -> DeliveryRun:
    """Make the delivery of a server."""
    log_to_stderr(configuration.server.log, configuration.server.log_level)
    metrics = None if memory is None else Metrics(memory.segment(SEGMENT))
    return DeliveryRun(configuration, "trackcore serve", metrics)


def main() -> None:
    """Deliver until the process is stopped."""
    run_child(make_run)


if __name__ == "__main__":
    main()
