"""How settings are structured: each class strictly, and those that have a `kind` by their kind."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import attrs
from cattrs import AttributeValidationNote, ClassValidationError, Converter
from trackcore_http import segments_name

from trackcore import ConsentRule, Destination, JSONObject, Source
from trackcore.plans import OnCommonViolation
from trackcore_server.config.consent import consent_hook
from trackcore_server.config.converter import class_hook, exactly, nearest, strict_converter
from trackcore_server.config.kafka_log import ClientSettings, KafkaLogSettings, as_client_settings
from trackcore_server.config.kinds import KINDS
from trackcore_server.config.log import LogSettings
from trackcore_server.config.plans import as_common_violation
from trackcore_server.config.sdk_settings import NAMED_BY_SEGMENT
from trackcore_server.config.sources import ConfiguredSource


def _destination_hook(converter: Converter) -> Callable[[Any, Any], Any]:
    """Structure a destination by its `kind`, or as one without delivery."""
    plain = class_hook(Destination, converter)
    of_kind = cache(lambda name: class_hook(KINDS[name], converter))

    def structure(value: Any, _: Any) -> Any:
        settings: JSONObject = {**exactly(dict)(value, Destination)}
        if "kind" not in settings:
            return plain(settings, Destination)
        kind = settings.pop("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            hint = nearest(str(kind), list(KINDS)) or f"; there are {', '.join(KINDS)}"
            error = ValueError(f"there is no such kind of destination{hint}")
            error.add_note(AttributeValidationNote("", "kind", str))
            raise ClassValidationError("", [error], Destination)
        return of_kind(kind)(settings, KINDS[kind])

    return structure


def _source_hook(converter: Converter) -> Callable[[Any, Any], Any]:
    """Structure a source; it is a `ConfiguredSource` only if it has more than a `Source`."""
    configured = class_hook(ConfiguredSource, converter)

    def structure(value: Any, _: Any) -> Any:
        source: ConfiguredSource = configured(value, ConfiguredSource)
        if source.plan is None and "plan_controls" in value:
            error = ValueError("there is no plan for these controls")
            error.add_note(AttributeValidationNote("", "plan_controls", ConfiguredSource))
            raise ClassValidationError("", [error], ConfiguredSource)
        if not source.is_plain:
            return source
        return Source(**{field.name: getattr(source, field.name) for field in attrs.fields(Source)})

    return structure


def _is(*classes: type) -> Callable[[Any], bool]:
    return lambda cls: cls in classes


def _structure_log(value: Any, _: Any) -> Any:
    """Structure the log by its `kind`.  The class of the default kind reports a wrong one."""
    is_kafka = type(value) is dict and value.get("kind") == "kafka"
    return converter.structure(value, KafkaLogSettings if is_kafka else LogSettings)


converter = strict_converter()
converter.register_structure_hook(ConsentRule, consent_hook(converter))
converter.register_structure_hook_factory(_is(Destination), lambda _: _destination_hook(converter))
converter.register_structure_hook_factory(_is(Source), lambda _: _source_hook(converter))
converter.register_structure_hook_factory(_is(*NAMED_BY_SEGMENT), lambda cls: class_hook(cls, converter, segments_name))
converter.register_structure_hook(OnCommonViolation, as_common_violation)
converter.register_structure_hook(ClientSettings, as_client_settings)
converter.register_structure_hook(LogSettings | KafkaLogSettings, _structure_log)
