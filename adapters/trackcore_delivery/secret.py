"""Secrets in settings: values that are never shown, and that settings may reference instead of containing.

`env:NAME` refers to the environment variable NAME.  It is looked up when a destination is opened, not when settings are
read: a command that only lists messages needs no secret.

A value must be valid in a header: Latin-1 without control characters, and without surrounding white space.  A line
break at its end, as files and shells leave it, would make every request fail, or arrive with an unknown key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from trackcore import TrackcoreError

_PREFIX = "env:"
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LAST_LATIN = "\xff"


@attrs.define(kw_only=True, eq=False)
class UnusableSecret(TrackcoreError):
    """An environment variable that settings refer to has an unusable value.  The value is not shown."""

    variable: str
    detail: str
    setting: str = ""
    """The setting that refers to the variable, if the kind of destination knows it."""

    def __str__(self) -> str:
        return f"the environment variable {self.variable} {self.detail}"


@attrs.define(kw_only=True, eq=False)
class MissingSecret(UnusableSecret):
    """An environment variable that settings refer to does not exist."""

    detail: str = "is not set"


def secret_fault(text: str) -> str | None:
    """Return why a text is unfit as a secret or as a header value, without quoting it; None if it is fit."""
    if text != text.strip():
        return "has white space around it, such as a line break at its end"
    if _CONTROLS.search(text):
        return "has control characters"
    if max(text, default="") > _LAST_LATIN:
        return "has characters that are not Latin-1"
    return None


@attrs.frozen
class Secret:
    """Text that must not be shown: `env:NAME`, or the text itself.  Raises `ValueError` if it cannot be used."""

    _text: str = attrs.field(repr=False)
    _has_lines: bool = attrs.field(default=False, repr=False, kw_only=True)
    """Whether it is a text of several lines, such as a PEM certificate, which is not sent in a header."""

    def __attrs_post_init__(self) -> None:
        variable = self.variable
        if variable is not None:
            if not variable or not variable.isprintable() or " " in variable or "=" in variable:
                raise ValueError("expected the name of an environment variable after 'env:'")
        elif not self._has_lines and (fault := secret_fault(self._text)) is not None:
            raise ValueError(f"the value {fault}")

    @property
    def variable(self) -> str | None:
        """The environment variable that it refers to; None if it is the text itself."""
        return self._text.removeprefix(_PREFIX) if self.is_named else None

    @property
    def is_named(self) -> bool:
        """Whether it only refers to an environment variable."""
        return self._text.startswith(_PREFIX)

    def reveal(self, environ: Mapping[str, str]) -> str:
        """Return the text itself.

        Raises:
            MissingSecret: the variable is not set, or empty.
            UnusableSecret: the value of the variable is unfit as a secret.
        """
        variable = self.variable
        if variable is None:
            return self._text
        if not (value := environ.get(variable)):
            raise MissingSecret(variable=variable)
        if not self._has_lines and (fault := secret_fault(value)) is not None:
            raise UnusableSecret(variable=variable, detail=fault)
        return value
