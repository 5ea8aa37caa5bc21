"""Options that several subcommands have, the types of their values, and the form of a failure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from trackcore import Call, parse_timestamp
from trackcore.text import visible
from trackcore_server.config.deployment import CONFIG_NAME, CONFIG_VARIABLE, DEFAULT_FOLDER
from trackcore_server.config.units import parse_age

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


def parsed_by(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Return a click callback that parses the text of an option.  `parse` raises `ValueError`."""

    def read(_: click.Context, parameter: click.Parameter, text: str | None) -> Any:
        try:
            return None if text is None else parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error), param=parameter) from error

    return read


def parse_since(text: str) -> datetime:
    """Parse an ISO 8601 time, in UTC unless it has an offset, or an age."""
    time = parse_timestamp(text) or _ago(text)
    if time is None:
        raise ValueError(f"expected a time such as 2026-01-31T12:00Z or an age such as 15m, 2h, 7d, found {text!r}")
    return time


def location_options(command: _Command) -> _Command:
    """Add `--config` and `--data` to a command."""
    file_type = click.Path(path_type=Path, dir_okay=False)
    folder_type = click.Path(path_type=Path, file_okay=False)
    config_help = f"Configuration file.  [default: ${CONFIG_VARIABLE}, else ./{CONFIG_NAME} if it exists]"
    data_help = (
        f"Data folder: contains the log, and {CONFIG_NAME} unless --config names another file.  "
        f"[default: `[server] data`, else the folder of the configuration file, else ./{DEFAULT_FOLDER}]"
    )
    command = click.option("--data", type=folder_type, metavar="DIR", help=data_help)(command)
    return click.option("--config", type=file_type, metavar="FILE", help=config_help)(command)


def listing_options(command: _Command) -> _Command:
    """Add `--since`, `--limit` and `--format` to a command that lists part of the log."""
    limit_help = "Only the newest N.  [default: 50 on a terminal, else all]"
    command = format_option()(command)
    command = click.option("--limit", type=click.IntRange(min=1), metavar="N", help=limit_help)(command)
    return since_option("Only records")(command)


def since_option(what: str, default_help: str = "", **settings: Any) -> Callable[[_Command], _Command]:
    """Add `--since` to a command."""
    since_help = f"{what} received since T: an ISO time, or an age such as 15m, 2h, 7d.{default_help}"
    return click.option("--since", callback=parsed_by(parse_since), metavar="T", help=since_help, **settings)


def call_option(call_help: str) -> Callable[[_Command], _Command]:
    """Add `--type` to a command; its help lists the types."""
    calls = get_args(Call)
    types_help = f"{call_help}  TYPE is {', '.join(calls[:-1])} or {calls[-1]}."
    return click.option("--type", "call", type=click.Choice(calls), metavar="TYPE", help=types_help)


def format_option(
    program: str = "jsonl", people: str = "table", *, unit: str = "one JSON object per line"
) -> Callable[[_Command], _Command]:
    """Add `--format` to a command: one format for programs, and one for people."""
    format_help = f"{program}: {unit}.  [default: {people} on a terminal, else {program}]"
    return click.option("--format", "output_format", type=click.Choice([program, people]), help=format_help)


def _ago(text: str) -> datetime | None:
    try:
        return datetime.now(UTC) - parse_age(text)
    except (ValueError, OverflowError):
        return None
