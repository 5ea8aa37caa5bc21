"""The fixtures of the server tests."""

from server.conftest import _empty_folder, fill, lines, run, serve

__all__ = ["_empty_folder", "fill", "lines", "run", "serve"]
