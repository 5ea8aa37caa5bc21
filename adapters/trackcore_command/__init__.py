"""The entry point of the `trackcore` command: it has no dependencies, so it can report missing ones.

`pip install trackcore` installs the core and this command, which needs the extra `server`.
"""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command, or exit with 2 and a message that names the missing package."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C would print the traceback of an import
    try:
        from trackcore_server.cli import main as run  # noqa: PLC0415 - its imports may be missing
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing.startswith("trackcore"):
            raise
        sys.stderr.write(f"trackcore: {missing} is not installed; the command needs: pip install 'trackcore[server]'\n")
        sys.exit(2)
    signal.signal(signal.SIGINT, before)
    run()
