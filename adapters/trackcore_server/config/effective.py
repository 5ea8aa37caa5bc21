"""The effective configuration as a document that could be written down as TOML, without secrets."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import attrs
from trackcore_delivery import DeliveredDestination, Secret
from trackcore_http import segments_name

from trackcore import ConsentRule, JSONObject, mask_write_key
from trackcore_server.config.configuration import Configuration
from trackcore_server.config.consent import consent_table
from trackcore_server.config.sdk_settings import NAMED_BY_SEGMENT
from trackcore_server.config.units import age_text, size_text

HIDDEN = "(hidden)"
"""The text in place of a secret."""


def effective_document(configuration: Configuration) -> JSONObject:
    """Return every setting with its value in force; those that are not set, and have no default, are left out.

    Write keys are masked.  A secret that is named by its environment variable is shown by that name, `env:NAME`.
    """
    return _table_of(configuration)


def _table_of(settings: Any) -> JSONObject:
    table: JSONObject = {}
    name_of = segments_name if isinstance(settings, NAMED_BY_SEGMENT) else str
    for field in attrs.fields(type(settings)):
        value = getattr(settings, field.name)
        if value is not None and not (field.name == "plan_controls" and settings.plan is None):
            table[name_of(field.name)] = _shown(field, value)
        if field.name == "name" and isinstance(settings, DeliveredDestination):
            table["kind"] = settings.kind
    return table


def _shown(field: Any, value: Any) -> Any:
    if field.name == "write_keys":
        return [mask_write_key(key) for key in value]
    if field.repr is False:  # settings of a client, some of which are secrets
        return {name: _unless_text(item) for name, item in value.items()}
    if field.repr is not True:  # an address, which may have a password or a token
        return field.repr(value).strip("'")
    return size_text(value) if field.name.endswith("_bytes") else _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Secret):
        return HIDDEN if value.variable is None else f"env:{value.variable}"
    if isinstance(value, timedelta):
        return age_text(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if attrs.has(type(value)):
        return consent_table(value) if isinstance(value, ConsentRule) else _table_of(value)
    return value if isinstance(value, bool | int | float | str) else str(value)


def _unless_text(value: object) -> object:
    return HIDDEN if isinstance(value, str) and not value.startswith("env:") else value
