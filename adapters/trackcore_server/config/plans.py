"""The tracking plan of a source: its file and its controls, whose settings have the names of Segment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from trackcore import Source
from trackcore.plans import Controls, OnCommonViolation, TrackControls, TraitControls

CONTROLS: tuple[type, ...] = (Controls, TrackControls, TraitControls)
"""The classes of which a setting is written as Segment writes it."""

_DEFAULT = Controls()


@attrs.frozen(kw_only=True)
class PlannedSource(Source):
    """A source that may have a tracking plan, in a file."""

    plan: Path | None = None
    plan_controls: Controls = _DEFAULT


def as_common_violation(value: Any, _: Any) -> OnCommonViolation:
    """Read `commonEventOnViolations`."""
    if value not in list(OnCommonViolation):
        raise ValueError(f"expected one of {', '.join(OnCommonViolation)}, found {value!r}")
    return OnCommonViolation(value)
