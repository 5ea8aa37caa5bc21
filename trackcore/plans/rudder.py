"""Violations as RudderStack writes them into the context of a message: `violationErrors`.

Source: https://github.com/rudderlabs/rudder-transformer, `src/util/eventValidation.js`.  It writes `instacePath`, which
its readers know; the right spelling is there too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trackcore.plans.locations import Location, location_text
from trackcore.plans.violations import MISSING_FIELD, Violation, ViolationKind
from trackcore.typing import JSONObject

_KINDS: Mapping[str, str] = {
    ViolationKind.UNPLANNED_EVENT: "Unplanned-Event",
    ViolationKind.UNPLANNED_PROPERTY: "Additional-Properties",
    ViolationKind.REQUIRED_MISSING: "Required-Missing",
    ViolationKind.WRONG_TYPE: "Datatype-Mismatch",
}
_KEYWORDS: Mapping[str, str] = {
    "": "Additional-Properties",
    "type": "Datatype-Mismatch",
    **dict.fromkeys(MISSING_FIELD, "Required-Missing"),
    **dict.fromkeys(("const", "enum", "format", "pattern", "multipleOf"), "Advance-Rules-Violation"),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), "Advance-Rules-Violation"),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "uniqueItems"), "Advance-Rules-Violation"),
}


def violation_error(violation: Violation) -> JSONObject:
    """Return a violation in the shape of RudderStack."""
    found = _KINDS.get(violation.kind) or _KEYWORDS.get(violation.keyword, "Unknown-Violation")
    error = {"type": found, "message": violation.sentence}
    if violation.kind is ViolationKind.UNPLANNED_EVENT:
        return {**error, "property": "", "meta": {}}
    is_about_a_name = found in {"Required-Missing", "Additional-Properties"}
    place = _pointer(violation.location[:-1] if is_about_a_name else violation.location)
    meta = {"instancePath": place, "instacePath": place, "schemaPath": f"#{_pointer(violation.schema_location)}"}
    if found == "Required-Missing":
        meta["missingProperty"] = str(violation.location[-1])
    return {**error, "property": location_text(violation.location), "meta": meta}


def _pointer(location: Location | Iterable[str | int]) -> str:
    """Return a location as a JSON Pointer."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in location)
