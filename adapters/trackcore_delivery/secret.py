"""Secrets in settings: a value that is never shown, and that may be named rather than written down.

`env:NAME` stands for the environment variable NAME.  It is looked up when a destination is opened, not when settings
are read: who only lists messages needs no secret.

A value must be fit for a header: Latin-1 without control characters, and without white space around it.  A line break
at its end, as files and shells leave it, would make every request fail, or arrive with a key that nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from trackcore import TrackcoreError

_PREFIX = "env:"


@attrs.define(kw_only=True, eq=False)
class UnusableSecret(TrackcoreError):
    """The value of an environment variable that settings name cannot be used.  The value is not told."""

    variable: str
    detail: str
    setting: str = ""
    """The setting that names the variable, where the kind of destination knows."""

    def __str__(self) -> str:
        return f"the environment variable {self.variable} {self.detail}"


@attrs.define(kw_only=True, eq=False)
class MissingSecret(UnusableSecret):
    """The environment does not have a variable that settings name."""

    detail: str = "is not set"


def secret_fault(text: str) -> str | None:
    """Return what makes a text unfit as a secret or as the value of a header, without quoting it; None if it is fit."""
    if text != text.strip():
        return "has white space around it, such as a line break at its end"
    if any(ord(character) < _SPACE or _DEL <= ord(character) < _FIRST_LATIN for character in text):
        return "has control characters"
    if any(ord(character) > _LAST_LATIN for character in text):
        return "has characters that are not Latin-1"
    return None


_SPACE = 0x20
_DEL = 0x7F
_FIRST_LATIN = 0xA0
_LAST_LATIN = 0xFF


@attrs.frozen
class Secret:
    """Text that must not be shown: `env:NAME`, or the text itself.

    Raises:
        ValueError: the text, or the name of the variable, cannot be used.
    """

    _text: str = attrs.field(repr=False)
    _has_lines: bool = attrs.field(default=False, repr=False, kw_only=True)
    """Whether it is a text of several lines, such as a certificate in PEM, which no header carries."""

    def __attrs_post_init__(self) -> None:
        variable = self.variable
        if variable is not None:
            if not variable or not variable.isprintable() or " " in variable or "=" in variable:
                raise ValueError("expected the name of an environment variable after 'env:'")
        elif not self._has_lines and (fault := secret_fault(self._text)) is not None:
            raise ValueError(f"the value {fault}")

    @property
    def variable(self) -> str | None:
        """The environment variable that it names; None if it is the text itself."""
        return self._text.removeprefix(_PREFIX) if self.is_named else None

    @property
    def is_named(self) -> bool:
        """Tell whether it only names an environment variable."""
        return self._text.startswith(_PREFIX)

    def reveal(self, environ: Mapping[str, str]) -> str:
        """Return the text itself.

        Raises:
            MissingSecret: the variable that it names is not set, or empty.
            UnusableSecret: the variable has a value that is no secret.
        """
        variable = self.variable
        if variable is None:
            return self._text
        if not (value := environ.get(variable)):
            raise MissingSecret(variable=variable)
        if not self._has_lines and (fault := secret_fault(value)) is not None:
            raise UnusableSecret(variable=variable, detail=fault)
        return value
