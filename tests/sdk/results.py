"""Test results for the table: one small file for each SDK and feature."""

from __future__ import annotations

import json
import re

from sdk.installing import CACHE

RESULTS = CACHE / "results"


def record(package: str, version: str, shown: str) -> None:
    """Record that a test has shown a feature of an SDK.  Call it at the end of a test, so only if it is green."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{package} {version} {shown}").strip("-")
    (RESULTS / f"{name}.json").write_text(json.dumps({"package": package, "version": version, "shown": shown}))
