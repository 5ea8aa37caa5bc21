"""The ways in which loading fails."""

from __future__ import annotations

import attrs

from trackcore import TrackcoreError


@attrs.define(kw_only=True, eq=False)
class WarehouseUnavailable(TrackcoreError):
    """The database cannot be written now: it is down, full or locked, or refuses the login or a statement."""

    detail: str


@attrs.define(kw_only=True, eq=False)
class CursorMoved(TrackcoreError):
    """The cursor of a lane is not where this process left it: another one has moved it, or a backup was restored."""

    lane: str

    def __str__(self) -> str:
        return "the cursor in the database is not where this process left it; going on from there"


@attrs.define(kw_only=True, eq=False)
class UnusableUrl(TrackcoreError):
    """The URL is not one of PostgreSQL.  It is not shown, since it may contain a password."""

    detail: str
