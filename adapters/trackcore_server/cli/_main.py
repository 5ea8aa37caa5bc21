"""The `trackcore` command.  Machine-readable output goes to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from pkgutil import resolve_name
from typing import Any, NamedTuple

import click

from trackcore import TrackcoreError
from trackcore_server.cli._options import Failure


class _Place(NamedTuple):
    """The module and the name of a command, and what it does."""

    place: str
    short_help: str


_COMMANDS = {
    "serve": _Place("serve:serve", "Receive messages over HTTP."),
    "config": _Place("config:config_commands", "Check and show the configuration."),
    "deliver": _Place("deliver:deliver", "Deliver messages to their destinations."),
    "destinations": _Place("destinations:destinations", "Show the delivery status of each destination."),
    "tables": _Place("tables:tables", "List the tables of warehouses."),
    "warehouse": _Place("warehouse:warehouse", "Show the statements that a warehouse needs; rebuild it from the log."),
    "dead-letters": _Place("dead_letters:dead_letters", "List, retry or drop undeliverable messages."),
    "replay": _Place("replay:replay", "Send past messages to a destination again."),
    "import": _Place("import_files:import_files", "Store historical messages from files."),
    "events": _Place("events:events", "List stored messages."),
    "rejected": _Place("rejected:rejected", "List rejected messages, or quarantined requests."),
    "explain": _Place("explain:explain", "Explain how a message was processed."),
    "stats": _Place("stats:stats", "Count and measure messages."),
    "export": _Place("export:export", "Export messages, or everything of a person."),
    "validate": _Place("validate:validate", "Check messages and batches in files."),
    "plan": _Place("plan:plan", "Convert and examine tracking plans; make them from the log."),
    "pii": _Place("pii:pii", "Find likely personal data."),
    "suppress": _Place("persons:suppress", "Keep no further message of a person."),
    "unsuppress": _Place("persons:unsuppress", "Keep the messages of a person again."),
    "forget": _Place("persons:forget", "Delete everything of a person."),
    "prune": _Place("maintenance:prune_log", "Delete old messages."),
    "check": _Place("maintenance:check", "Check the log for damage."),
    "schema": _Place("schema:schema", "Print the JSON Schema of a message."),
    "test-server": _Place("test_server:test_server", "Receive messages in memory, for tests."),
}
"""Each command; only the module of the one that runs is imported."""

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
    """The subcommands, with one place that turns their exceptions into messages.  Its help imports none of them."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name].short_help) for name in self.list_commands(ctx)])

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

    def __init__(self, places: Mapping[str, _Place]) -> None:
        self._places: dict[str, _Place | click.Command] = {**places}

    def __getitem__(self, name: str) -> click.Command:
        found = self._places[name]
        if isinstance(found, _Place):
            command = resolve_name(f"trackcore_server.cli.{found.place}")
            assert isinstance(command, click.Command)
            command.short_help = found.short_help
            self._places[name] = found = command
        return found

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
