"""The setting `consent` of a destination: a list of categories, or a table that says which of them suffice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from cattrs import Converter

from trackcore import ConsentRule, JSONObject


@attrs.frozen(kw_only=True)
class ConsentSettings:
    """The keys of the table.  Exactly one of `all` and `any` has the categories."""

    all: tuple[str, ...] | None = None
    any: tuple[str, ...] | None = None
    unknown: str = "allow"


def consent_hook(converter: Converter) -> Callable[[Any, Any], Any]:
    """Structure `["Analytics"]`, `{all = [...]}` or `{any = [...]}`, the tables also with `unknown`."""

    def structure(value: Any, _: Any) -> ConsentRule:
        if type(value) is list:
            return ConsentRule(categories=converter.structure(value, tuple[str, ...]))
        if type(value) is not dict:
            raise ValueError(_EXPECTED)
        settings = converter.structure(value, ConsentSettings)
        if (settings.all is None) is (settings.any is None):
            raise ValueError(_EXPECTED)
        categories = settings.all or settings.any or ()
        return ConsentRule(categories=categories, any_suffices=settings.any is not None, unknown=settings.unknown)

    return structure


def consent_table(rule: ConsentRule) -> JSONObject:
    """Return a rule as the table that is read as it."""
    return {"any" if rule.any_suffices else "all": list(rule.categories), "unknown": rule.unknown}


_EXPECTED = "expected an array of categories, or a table with either `all` or `any`"
