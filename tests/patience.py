"""The time that tests wait for a condition at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 60.0
"""Seconds after which a wait is given up.  Nothing should take that long, even on a loaded machine."""

_PAUSE_SECONDS = 0.005


def wait_for(condition: Callable[[], Any], *, patience: float = PATIENCE) -> Any:
    """Poll until `condition` returns a true value, and return that; fail after `patience` seconds."""
    end = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(_PAUSE_SECONDS)
    return found
