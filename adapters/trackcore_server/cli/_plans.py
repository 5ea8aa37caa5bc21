"""The package of tracking plans, imported when a command needs it: its own packages are those of an extra."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from trackcore.plans import Plan
from trackcore_server.cli._options import Failure

_Command = TypeVar("_Command", bound=Callable[..., Any])

FORMS = ("segment", "typewriter", "config", "rudder", "rudder-v0.1", "yaml", "toml")
"""The forms of plans, in the words of `trackcore_plans.Form`."""


@contextmanager
def plans_extra() -> Iterator[None]:
    """Import `trackcore_plans` within this.  Raises `Failure` if the extra is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise Failure(f"{missing} is not installed; tracking plans need: pip install 'trackcore[plans]'") from error


def plan_argument(name: str = "plan", metavar: str = "PLAN") -> Callable[[_Command], _Command]:
    """Add the file of a plan to a command."""
    return click.argument(name, type=click.Path(path_type=Path), metavar=metavar)


def plan_option(command: _Command) -> _Command:
    """Add `--plan` to a command."""
    file_type = click.Path(path_type=Path)
    return click.option("--plan", type=file_type, metavar="PLAN", help="A tracking plan to check messages against.")(
        command
    )


def load_checked_plan(file: Path) -> Plan:
    """Read the plan in a file.  Raises `InvalidPlan`, and `Failure` if the extra is not installed."""
    with plans_extra():
        from trackcore_plans import load_plan  # noqa: PLC0415 - of an extra
    return load_plan(file)
