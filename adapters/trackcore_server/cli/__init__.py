"""The `trackcore` command: one module for each subcommand; modules with an underscore are shared helpers."""

from trackcore_server.cli._main import main

__all__ = ["main"]
