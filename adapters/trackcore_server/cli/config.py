"""`trackcore config`: check the configuration, and show what is in force."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import click
import tomli_w

from trackcore.text import visible
from trackcore_server.cli._options import FINDINGS, Failure, location_options
from trackcore_server.config.api_options import read_api_options
from trackcore_server.config.configuration import (
    Configuration,
    ConfigurationError,
    contents_of,
    counted,
    examine_configuration,
    read_text,
    rebase,
)
from trackcore_server.config.debugger_token import read_debugger_token
from trackcore_server.config.deployment import CONFIG_NAME, DEFAULT_FOLDER, find_deployment, find_file
from trackcore_server.config.effective import effective_document
from trackcore_server.config.lines import line_of
from trackcore_server.config.mistakes import is_within
from trackcore_server.config.plan_files import find_wrong_plans
from trackcore_server.config.privacy_rules import privacy_key, read_admin_token
from trackcore_server.delivery.service import find_wrong_destinations
from trackcore_server.hosting.exposure import find_exposed
from trackcore_server.storage.backends import backend_of

_EXAMPLES = """\b
Examples:
  trackcore config check
  trackcore config show
"""

_CHECK_EXAMPLES = """\b
Examples:
  trackcore config check && systemctl reload trackcore
  trackcore config check --config /etc/trackcore.toml
"""

_SHOW_EXAMPLES = """\b
Examples:
  trackcore config show
  trackcore config show --config /etc/trackcore.toml --data /var/lib/trackcore
"""


@click.group("config", epilog=_EXAMPLES)
def config_commands() -> None:
    """Check the configuration, or show the values in force."""


@config_commands.command("check", epilog=_CHECK_EXAMPLES, short_help="Report every mistake in the configuration.")
@location_options
def check_config(*, config: Path | None, data: Path | None) -> None:
    """Read the configuration as `trackcore serve` would, and report every mistake with its file, line and place.

    So are the mistakes in the tracking plans of its sources. Nothing is opened or written, and a running server is not
    affected. The environment variables that the configuration names must be set, as for the server.

    Exit code: 0 if the server would start with it, 1 if there are mistakes, 2 if there is no file or it is unreadable.
    """
    file, _ = find_file(config=config, data=data)
    if file is None:
        raise Failure(
            f"there is no {(data or DEFAULT_FOLDER) / CONFIG_NAME}; `trackcore serve` would create it, with one source"
        )
    text = read_text(file)
    configuration, mistakes = examine_configuration(text)
    configuration = rebase(configuration, data, file=file)
    mistakes += [*_mistakes_beyond(configuration, [mistake.path for mistake in mistakes])]
    for mistake in mistakes:
        line = line_of(text, mistake.path)
        click.echo(
            visible(f"{file if line is None else f'{file}:{line}'}: {attrs.evolve(mistake, file=None)}"), err=True
        )
    for sentence in find_exposed(configuration, file):
        click.echo(f"WARNING: {sentence}", err=True)
    if mistakes:
        click.echo(f"{file}: {counted(len(mistakes), 'mistake')}", err=True)
        sys.exit(FINDINGS)
    click.echo(f"{file}: no mistakes; {contents_of(configuration)}", err=True)


@config_commands.command("show", epilog=_SHOW_EXAMPLES, short_help="Print the settings in force.")
@location_options
def show_config(*, config: Path | None, data: Path | None) -> None:
    """Print every setting with its value in force as TOML, defaults included.

    Paths are absolute. Secrets are hidden and write keys are masked; a secret that the configuration names by its
    environment variable is shown by that name.
    """
    deployment = find_deployment(config=config, data=data)
    click.echo(f"Configuration: {deployment.file or 'none, so these are the defaults'}", err=True)
    click.echo(tomli_w.dumps(effective_document(deployment.configuration)), nl=False)


def _mistakes_beyond(configuration: Configuration, known: list[str]) -> Iterator[ConfigurationError]:
    """Yield the mistakes that show only when the settings are used.  Those of tables with `known` ones are left out."""
    if "" in known:  # it is not TOML
        return
    if not configuration.sources and not is_within("sources", known):
        yield ConfigurationError(path="sources", detail="no source is configured, so no message could be stored")
    try:
        backend_of(configuration).open_log()
    except ConfigurationError as mistake:
        yield mistake
    try:
        read_debugger_token(configuration)
    except ConfigurationError as mistake:
        yield mistake
    yield from find_wrong_plans(configuration)
    try:
        read_api_options(configuration)
    except ConfigurationError as mistake:
        yield mistake
    try:
        read_admin_token(configuration)
    except ConfigurationError as mistake:
        yield mistake
    try:
        privacy_key(configuration)
    except ConfigurationError as mistake:
        yield mistake
    else:
        yield from find_wrong_destinations(configuration)
