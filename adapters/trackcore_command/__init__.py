"""The way into the `trackcore` command: it needs nothing, so it can say what is missing.

`pip install trackcore` brings the core alone and the command too, which needs the extra `server`.
"""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command, or exit with 2 and one sentence that says what to install."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C would print the traceback of an import
    try:
        from trackcore_server.cli.main import main as run  # noqa: PLC0415 - what it imports may be missing
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing.startswith("trackcore"):
            raise
        sys.stderr.write(f"trackcore: {missing} is not installed; the command needs: pip install 'trackcore[server]'\n")
        sys.exit(2)
    signal.signal(signal.SIGINT, before)
    run()
