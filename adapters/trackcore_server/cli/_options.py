"""Options that several subcommands have, the types of their values, and the form of a failure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from trackcore import parse_timestamp
from trackcore.text import visible
from trackcore_server.config.deployment import CONFIG_NAME, CONFIG_VARIABLE, DEFAULT_FOLDER
from trackcore_server.config.units import parse_age, parse_bind

FINDINGS = 1
"""The exit code of a command that ran and found something wrong in its input."""

UNUSABLE = 2
"""The exit code of a command that could not run: wrong usage or configuration, an unusable log or file."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Failure(click.ClickException):
    """The command cannot run because of its configuration, a file or an address."""

    exit_code = UNUSABLE

    def __init__(self, message: str) -> None:
        super().__init__("\n".join(map(visible, message.split("\n"))))


def read_bind(_: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """Check an address to listen on (a click callback)."""
    try:
        if text is not None:
            parse_bind(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from error
    return text


def read_since(_: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    """Parse an ISO 8601 time, in UTC unless it has an offset, or an age (a click callback)."""
    if text is None:
        return None
    time = parse_timestamp(text) or _ago(text)
    if time is None:
        detail = f"expected a time such as 2026-01-31T12:00Z or an age such as 15m, 2h, 7d, found {text!r}"
        raise click.BadParameter(detail, param=parameter)
    return time


def location_options(command: _Command) -> _Command:
    """Add `--config` and `--data` to a command."""
    file_type = click.Path(path_type=Path, dir_okay=False)
    folder_type = click.Path(path_type=Path, file_okay=False)
    config_help = f"Configuration file.  [default: ${CONFIG_VARIABLE}, else ./{CONFIG_NAME} if it exists]"
    data_help = (
        f"Data folder: contains the log, and {CONFIG_NAME} unless --config names another file.  "
        f"[default: the folder of the configuration file, else ./{DEFAULT_FOLDER}]"
    )
    command = click.option("--data", type=folder_type, metavar="DIR", help=data_help)(command)
    return click.option("--config", type=file_type, metavar="FILE", help=config_help)(command)


def listing_options(command: _Command) -> _Command:
    """Add `--since`, `--limit` and `--format` to a command that lists part of the log."""
    since_help = "Only records received since T: an ISO time, or an age such as 15m, 2h, 7d."
    limit_help = "Only the newest N.  [default: 50 on a terminal, else all]"
    command = format_option(command)
    command = click.option("--limit", type=click.IntRange(min=1), metavar="N", help=limit_help)(command)
    return click.option("--since", callback=read_since, metavar="T", help=since_help)(command)


def format_option(command: _Command) -> _Command:
    """Add `--format` to a command that lists something."""
    format_help = "jsonl: one JSON object per line.  [default: table on a terminal, else jsonl]"
    formats = click.Choice(["jsonl", "table"])
    return click.option("--format", "output_format", type=formats, help=format_help)(command)


def _ago(text: str) -> datetime | None:
    try:
        return datetime.now(UTC) - parse_age(text)
    except (ValueError, OverflowError):
        return None
