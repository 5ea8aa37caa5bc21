"""The `trackcore` command: one module for each subcommand; modules with an underscore are shared helpers.

`main` collects the subcommands and turns errors into one line and an exit code.
"""

from trackcore_server.cli._main import main

__all__ = [
    "main",
]
