"""What the tests found, kept for the table: one small file for each SDK and thing that was shown of it."""

from __future__ import annotations

import json
import re

from sdk.installing import CACHE

RESULTS = CACHE / "results"


def tell(package: str, version: str, shown: str) -> None:
    """Say that a test has shown something of an SDK.  It is called at the end of a test, so only of what is green."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{package} {version} {shown}").strip("-")
    (RESULTS / f"{name}.json").write_text(json.dumps({"package": package, "version": version, "shown": shown}))
