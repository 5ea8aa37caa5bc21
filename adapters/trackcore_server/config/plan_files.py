"""The plans of a configuration, read from their files."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import attrs

from trackcore import TrackcoreError
from trackcore.plans import Plan, PlanInForce
from trackcore_server.config.configuration import Configuration, ConfigurationError
from trackcore_server.config.plans import PlannedSource


def load_plans(configuration: Configuration) -> dict[str, PlanInForce]:
    """Return the plans by the name of their source.  Raises `ConfigurationError` for one that cannot be used."""
    return {
        source.name: PlanInForce(plan=_load(index, source), controls=source.plan_controls)
        for index, source in _planned(configuration)
    }


def load_plan_of(configuration: Configuration, name: str) -> Plan | None:
    """Return the plan of one source, None if it has none.  Raises `ConfigurationError` for one that cannot be used."""
    return next((_load(index, source) for index, source in _planned(configuration) if source.name == name), None)


def find_wrong_plans(configuration: Configuration) -> Iterator[ConfigurationError]:
    """Yield the mistakes in all plans: each with the setting of its plan, and its own file and place."""
    for index, source in _planned(configuration):
        try:
            _load(index, source)
        except ConfigurationError as error:
            yield from (attrs.evolve(error, detail=line) for line in error.detail.splitlines())


def _planned(configuration: Configuration) -> Iterator[tuple[int, PlannedSource]]:
    for index, source in enumerate(configuration.sources):
        if isinstance(source, PlannedSource) and source.plan is not None:
            yield index, source


def _load(index: int, source: PlannedSource) -> Plan:
    path = f"sources[{index}].plan"
    try:
        plan: Plan = import_module("trackcore_plans").load_plan(source.plan)
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        detail = f"{missing} is not installed; tracking plans need: pip install 'trackcore[plans]'"
        raise ConfigurationError(path=path, detail=detail) from error
    except OSError as error:
        raise ConfigurationError(path=path, detail=f"{source.plan} cannot be read: {error.strerror}") from None
    except TrackcoreError as error:
        raise ConfigurationError(path=path, detail=str(error)) from None
    return plan
