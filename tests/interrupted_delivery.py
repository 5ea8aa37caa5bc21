"""Stops `DeliveryRun` at each instruction of a wait, each time in another process.

The arguments are a configuration, the number of instructions, and the seconds that a process may take.  It exits with 0
if each of them did; one that hangs is killed.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from trackcore_server import load_configuration
from trackcore_server.config.configuration import Configuration
from trackcore_server.delivery import service
from trackcore_server.process.children import run_until_signal
from trackcore_server.storage.delivery_state import delivery_lock

WAITING = ("threading.py", "service.py", "children.py", "signals.py")


def interrupt(configuration: Configuration, moment: int, seconds: float) -> None:
    """Wait for the lock, and send the signal at that instruction."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if Path(frame.f_code.co_filename).name not in WAITING or not callable(signal.getsignal(signal.SIGTERM)):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
            if count == moment:
                os.kill(os.getpid(), signal.SIGTERM)
        return trace

    service._LOOK_SECONDS = 0.001
    signal.setitimer(signal.ITIMER_REAL, seconds)
    sys._getframe().f_trace_opcodes = True  # 3.12 reads this when tracing begins, and not again
    sys.settrace(trace)
    run_until_signal(service.DeliveryRun(configuration, "the one that waits"))
    sys.settrace(None)
    assert count >= moment


def main() -> int:
    """Try one after the other, up to the first that fails."""
    configuration = load_configuration(Path(sys.argv[1]))
    lock = delivery_lock(configuration)
    assert lock.acquire("the owner")
    for moment in range(1, int(sys.argv[2]) + 1):
        if (pid := os.fork()) == 0:
            interrupt(configuration, moment, float(sys.argv[3]))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if status != 0:
            print(f"status {status} at instruction {moment}", file=sys.stderr)  # noqa: T201 - for the test
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
