"""The `trackcore` command.  Machine-readable output goes to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any

import click

from trackcore import TrackcoreError
from trackcore_server.cli._options import Failure

_COMMANDS = {
    "serve": "serve:serve",
    "config": "config:config_commands",
    "deliver": "deliver:deliver",
    "destinations": "destinations:destinations",
    "tables": "tables:tables",
    "warehouse": "warehouse:warehouse",
    "dead-letters": "dead_letters:dead_letters",
    "replay": "replay:replay",
    "import": "import_files:import_files",
    "events": "events:events",
    "rejected": "rejected:rejected",
    "explain": "explain:explain",
    "stats": "stats:stats",
    "export": "export:export",
    "validate": "validate:validate",
    "plan": "plan:plan",
    "pii": "pii:pii",
    "suppress": "persons:suppress",
    "unsuppress": "persons:unsuppress",
    "forget": "persons:forget",
    "prune": "maintenance:prune_log",
    "check": "maintenance:check",
    "schema": "schema:schema",
    "test-server": "test_server:test_server",
}
"""The module and the name of each command; only the module of the one that runs is imported."""

_EPILOG = """\b
Examples:
  trackcore serve --write-key abc123
  trackcore events --follow
  trackcore COMMAND --help

Exit codes: 0 success, 1 findings, 2 wrong usage or configuration, or an unusable log.

\b
Shell completion, for bash (or zsh_source, fish_source):
  eval "$(_TRACKCORE_COMPLETE=bash_source trackcore)"
"""


class _Commands(click.Group):
    """The subcommands, with one place that turns their exceptions into messages."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader of our output has closed the pipe.  Python would report that again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except (TrackcoreError, OSError) as error:
            raise Failure(str(error)) from error


class _Imported(MutableMapping[str, click.Command]):
    """Commands by name, imported when they are looked up."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places: dict[str, str | click.Command] = {**places}

    def __getitem__(self, name: str) -> click.Command:
        place = self._places[name]
        if isinstance(place, str):
            module, _, attribute = place.partition(":")
            place = getattr(import_module(f"trackcore_server.cli.{module}"), attribute)
            assert isinstance(place, click.Command)
            self._places[name] = place
        return place

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._places[name] = command

    def __delitem__(self, name: str) -> None:
        del self._places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@click.group(cls=_Commands, commands=_Imported(_COMMANDS), epilog=_EPILOG)
@click.version_option(package_name="trackcore", prog_name="trackcore")
def main() -> None:
    """Receive, store, list and check Segment-compatible tracking messages."""
