"""Options that several subcommands have, the types of their values, and the form of a failure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import click

from trackcore import Call, parse_timestamp
from trackcore.text import visible
from trackcore_server.config.deployment import CONFIG_NAME, CONFIG_VARIABLE, DEFAULT_FOLDER
from trackcore_server.config.units import parse_age
from trackcore_server.files.columns import parse_columns

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
    """Add `--config` and `--data` to a command.  `--data` with a configuration file counts as `--config`."""
    file_type = click.Path(path_type=Path, dir_okay=False)

    @wraps(command)
    def with_locations(*arguments: Any, config: Path | None, data: Path | None, **options: Any) -> Any:
        if data is not None and data.suffix == ".toml" and data.is_file():
            if config is not None:
                raise click.UsageError("--data names a configuration, so leave out --config")
            config, data = data, None
        return command(*arguments, config=config, data=data, **options)

    config_help = f"Configuration file.  [default: ${CONFIG_VARIABLE}, else ./{CONFIG_NAME} if it exists]"
    data_help = (
        f"Data folder: contains the log, and {CONFIG_NAME} unless --config names another file.  Or the file of a log, "
        "or a configuration.  "
        f"[default: `[server] data`, else the folder of the configuration file, else ./{DEFAULT_FOLDER}]"
    )
    located = click.option("--data", type=click.Path(path_type=Path), metavar="PATH", help=data_help)(with_locations)
    return cast("_Command", click.option("--config", type=file_type, metavar="FILE", help=config_help)(located))


def listing_options(command: _Command) -> _Command:
    """Add `--since`, `--until`, and `--limit` to a command that lists part of the log."""
    limit_help = "Only the newest N.  [default: 50 on a terminal, else all]"
    command = click.option("--limit", type=click.IntRange(min=1), metavar="N", help=limit_help)(command)
    return since_option("Only records")(until_option("Only records")(command))


def message_options(command: _Command) -> _Command:
    """Add `--source`, `--type` and `--event` to a command that reads messages."""
    event_help = "Only track messages of this event, and pages and screens of this name."
    command = click.option("--event", metavar="NAME", help=event_help)(command)
    command = call_option("Only messages of this type.")(command)
    return click.option("--source", metavar="NAME", help="Only messages of this source.")(command)


def columns_option(columns_help: str) -> Callable[[_Command], _Command]:
    """Add `--columns` to a command."""
    return click.option("--columns", callback=parsed_by(parse_columns), metavar="NAME,NAME", help=columns_help)


def since_option(what: str, default_help: str = "", **settings: Any) -> Callable[[_Command], _Command]:
    """Add `--since` to a command."""
    since_help = f"{what} received since T: an ISO time, or an age such as 15m, 2h, 7d.{default_help}"
    return click.option("--since", callback=parsed_by(parse_since), metavar="T", help=since_help, **settings)


def until_option(what: str, default_help: str = "") -> Callable[[_Command], _Command]:
    """Add `--until` to a command."""
    until_help = f"{what} received before T.{default_help}"
    return click.option("--until", callback=parsed_by(parse_since), metavar="T", help=until_help)


def call_option(call_help: str) -> Callable[[_Command], _Command]:
    """Add `--type` to a command; its help lists the types."""
    calls = get_args(Call)
    types_help = f"{call_help}  TYPE is {', '.join(calls[:-1])} or {calls[-1]}."
    return click.option("--type", "call", type=click.Choice(calls), metavar="TYPE", help=types_help)


def format_option(
    program: str = "jsonl", people: str = "table", *others: str, unit: str = "one JSON object per line"
) -> Callable[[_Command], _Command]:
    """Add `--format` to a command: a format for programs, one for people, and others."""
    format_help = f"{program}: {unit}.  [default: {people} on a terminal, else {program}]"
    return click.option("--format", "output_format", type=click.Choice([program, people, *others]), help=format_help)


def _ago(text: str) -> datetime | None:
    try:
        return datetime.now(UTC) - parse_age(text)
    except (ValueError, OverflowError):
        return None
