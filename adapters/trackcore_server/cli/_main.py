"""The `trackcore` command.  Machine-readable output goes to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from trackcore import TrackcoreError
from trackcore_server.cli._options import Failure
from trackcore_server.cli.config import config_commands
from trackcore_server.cli.dead_letters import dead_letters
from trackcore_server.cli.deliver import deliver
from trackcore_server.cli.destinations import destinations
from trackcore_server.cli.events import events
from trackcore_server.cli.explain import explain
from trackcore_server.cli.export import export
from trackcore_server.cli.import_files import import_files
from trackcore_server.cli.maintenance import check, prune_log
from trackcore_server.cli.pii import pii
from trackcore_server.cli.plan import plan
from trackcore_server.cli.rejected import rejected
from trackcore_server.cli.replay import replay
from trackcore_server.cli.schema import schema
from trackcore_server.cli.serve import serve
from trackcore_server.cli.stats import stats
from trackcore_server.cli.test_server import test_server
from trackcore_server.cli.validate import validate

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


@click.group(cls=_Commands, epilog=_EPILOG)
@click.version_option(package_name="trackcore", prog_name="trackcore")
def main() -> None:
    """Receive, store, list and check Segment-compatible tracking messages."""


main.add_command(serve)
main.add_command(config_commands)
main.add_command(deliver)
main.add_command(destinations)
main.add_command(dead_letters)
main.add_command(replay)
main.add_command(import_files)
main.add_command(events)
main.add_command(rejected)
main.add_command(explain)
main.add_command(stats)
main.add_command(export)
main.add_command(validate)
main.add_command(plan)
main.add_command(pii)
main.add_command(prune_log)
main.add_command(check)
main.add_command(schema)
main.add_command(test_server)
