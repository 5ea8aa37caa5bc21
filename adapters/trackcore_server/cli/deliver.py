"""`trackcore deliver`: delivery without a server."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from trackcore_server.cli._delivery import log_delivered
from trackcore_server.cli._options import Failure, location_options
from trackcore_server.config.deployment import find_deployment
from trackcore_server.delivery.service import DeliveryRun, check_destinations
from trackcore_server.process.children import run_until_signal
from trackcore_server.process.signals import die_of_interrupt
from trackcore_server.process.stderr_log import log_to_stderr
from trackcore_server.storage.backends import backend_of

log = logging.getLogger("trackcore.server")

_EXAMPLES = """\b
Examples:
  trackcore deliver
  trackcore deliver --config /etc/trackcore.toml --data /var/lib/trackcore
"""


@click.command(epilog=_EXAMPLES)
@location_options
@click.pass_context
def deliver(context: click.Context, *, config: Path | None, data: Path | None) -> None:
    """Deliver the messages in the log to the destinations that have a `kind`, until stopped.

    `trackcore serve` also delivers, in a process beside its workers. If another process delivers already, this one
    waits and takes over when the other ends. SIGTERM and Ctrl-C stop it once the batches in flight are settled.

    With a log in Kafka, any number of processes share the work by partitions, if each has a separate state file
    (`[delivery] path`, or a separate data folder). Dead letters stay in that file.
    """
    die_of_interrupt(context)
    deployment = find_deployment(config=config, data=data)
    configuration = deployment.configuration
    if not configuration.delivered:
        raise Failure(
            f"{deployment.file or deployment.folder}: no destination has a kind, so there is nothing to deliver"
        )
    backend_of(configuration).open_log()  # reports wrong settings of its client now
    check_destinations(configuration, deployment.file)
    log_to_stderr(configuration.server.log, configuration.server.log_level)
    log.info("Log: %s", configuration.log.location)
    log.info("State: %s", configuration.delivery_path)
    log_delivered(configuration)
    run_until_signal(DeliveryRun(configuration, "trackcore deliver"))
