"""Secrets in settings: a value that is never shown, and that may be named rather than written down.

`env:NAME` stands for the environment variable NAME.  It is looked up when a destination is opened, not when settings
are read: who only lists messages needs no secret.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from trackcore import TrackcoreError

_PREFIX = "env:"


@attrs.define(kw_only=True, eq=False)
class MissingSecret(TrackcoreError):
    """The environment does not have a variable that settings name."""

    variable: str

    def __str__(self) -> str:
        return f"the environment variable {self.variable} is not set"


@attrs.frozen
class Secret:
    """Text that must not be shown: `env:NAME`, or the text itself."""

    _text: str = attrs.field(repr=False)

    @property
    def is_named(self) -> bool:
        """Tell whether it only names an environment variable."""
        return self._text.startswith(_PREFIX)

    def reveal(self, environ: Mapping[str, str]) -> str:
        """Give the text itself.  Raises `MissingSecret`."""
        if not self.is_named:
            return self._text
        variable = self._text.removeprefix(_PREFIX)
        if not (value := environ.get(variable)):
            raise MissingSecret(variable=variable)
        return value
