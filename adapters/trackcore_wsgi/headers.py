"""The headers of a request in a WSGI environment, by the names of HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_PREFIX = "HTTP_"
_WITHOUT_PREFIX = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})


class EnvironHeaders(Mapping[str, str]):
    """A view of the headers, by names in lower case.

    An environment has each header once: a server joins the values of a repeated one by commas (RFC 3875).
    """

    def __init__(self, environ: WSGIEnvironment) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        variable = name.upper().replace("-", "_")
        value: str = self._environ[variable if variable in _WITHOUT_PREFIX else _PREFIX + variable]
        return value

    def __iter__(self) -> Iterator[str]:
        for variable in self._environ:
            if variable in _WITHOUT_PREFIX or variable.startswith(_PREFIX):
                yield variable.removeprefix(_PREFIX).replace("_", "-").lower()

    def __len__(self) -> int:
        return sum(1 for _ in self)
