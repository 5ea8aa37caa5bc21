"""Names that a plan has, and the one that was probably meant by a name that it lacks.

Theory.  A name is near another if they differ only in case, spaces and punctuation, or by one letter: one too many, one
missing, another one, or two neighbours swapped.  Names are indexed by their folded form and by each form with one
letter less, so a lookup takes time by the length of the name alone: it depends on what a client sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

_SHORTEST_WITH_TYPO = 4
"""In shorter names one letter is too much of a difference: `id`, `ip`."""

_LONGEST = 64
"""Longer names are near no other one: a client may send a name of any length, and each letter costs a lookup."""


def folded(name: str) -> str:
    """Return a name without case, spaces and punctuation; a name that has nothing else stays as it is."""
    return "".join(filter(str.isalnum, name)).casefold() or name


@attrs.define(init=False)
class NameIndex:
    """The names of a plan at one place: the events, or the properties of one event.

    Of several names that are near another one it knows the first, and before all the one that is folded alike.
    """

    _by_form: dict[str, str]
    _by_folded: dict[str, str]

    def __init__(self, names: Iterable[str]) -> None:
        """Collect some names."""
        self._by_form, self._by_folded = {}, {}
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        """Add a name."""
        for form in _forms(name):
            self._by_form.setdefault(form, name)
        if len(name) <= _LONGEST:
            self._by_folded.setdefault(folded(name), name)

    def nearest(self, name: str) -> str | None:
        """Return the name that was probably meant, None if there is none or it is the name itself."""
        found = (self._by_folded.get(form) or self._by_form.get(form) for form in _forms(name))
        nearest = next((known for known in found if known is not None), None)
        return None if nearest == name else nearest


def _forms(name: str) -> Iterator[str]:
    if len(name) > _LONGEST:
        return
    form = folded(name)
    yield form
    if len(form) >= _SHORTEST_WITH_TYPO:
        for at in range(len(form)):
            yield form[:at] + form[at + 1 :]
