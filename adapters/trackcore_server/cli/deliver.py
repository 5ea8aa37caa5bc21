"""`trackcore deliver`: delivery by itself, without a server."""

from __future__ import annotations

from pathlib import Path

import click

from trackcore_server.cli._options import Failure, location_options
from trackcore_server.config.deployment import find_deployment
from trackcore_server.delivery.service import DeliveryRun, check_destinations, run_until_signal
from trackcore_server.process.signals import die_of_interrupt
from trackcore_server.process.stderr_log import log_to_stderr
from trackcore_server.storage.backends import backend_of

_EXAMPLES = """\b
Examples:
  trackcore deliver
  trackcore deliver --config /etc/trackcore.toml
"""


@click.command(epilog=_EXAMPLES, short_help="Deliver messages to their destinations.")
@location_options
@click.pass_context
def deliver(context: click.Context, *, config: Path | None, data: Path | None) -> None:
    """Deliver what is in the log to the destinations that have a `kind`, until stopped.

    `trackcore serve` does the same beside its workers. Where one process delivers already, another one stands by and
    takes over when the first has ended. SIGTERM and Ctrl-C stop it once the batches in flight are settled.

    With a log in Kafka any number of processes share the work, by partitions, if each has a state file of its own
    (`[delivery] path`, or its own data folder). Dead letters stay in that file.
    """
    die_of_interrupt(context)
    deployment = find_deployment(config=config, data=data)
    configuration = deployment.configuration
    if not configuration.delivered:
        raise Failure(f"{deployment.file or deployment.folder}: no destination has a kind: there is nothing to deliver")
    backend_of(configuration).open_log()  # what is wrong with the settings of its client is told now
    check_destinations(configuration, deployment.file)
    click.echo(f"Log: {configuration.log.location}", err=True)
    click.echo(f"State: {configuration.delivery_path}", err=True)
    names = ", ".join(f"{item.name} ({item.kind})" for item in configuration.delivered)
    click.echo(f"Delivering to: {names}", err=True)
    log_to_stderr()
    run_until_signal(DeliveryRun(configuration, "trackcore deliver"))
