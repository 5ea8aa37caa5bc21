"""Notes on what a form has no words for, all in one shape: where, and what is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from trackcore.plans import PlanDocument, Rule
from trackcore_plans.essence import annotation_keywords


def lost(where: str, what: str) -> str:
    """Return the note that something is lost."""
    return f"{where}: lost: {what}"


def lost_names(where: str, what: str, names: Iterable[str]) -> Iterator[str]:
    """Yield the note that fields or keywords of these names are lost, nothing if there are none."""
    if listed := ", ".join(dict.fromkeys(names)):
        yield f"{where}: lost {what}: {listed}"


def lost_fields(document: PlanDocument, *kept: str) -> Iterator[str]:
    """Yield the note on the fields of a plan and its rules that are in no schema, except some that are kept."""
    names = (*document.extra, *(name for rule in document.rules for name in rule.extra))
    yield from lost_names("the plan and its rules", "fields", (name for name in names if name not in kept))


def lost_annotations(rules: Iterable[Rule]) -> Iterator[str]:
    """Yield the note on the titles, labels and the like in the schemas of some rules."""
    yield from lost_names(
        "the schemas", "keywords", (name for rule in rules for name in annotation_keywords(rule.schema))
    )
