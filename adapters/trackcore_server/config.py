"""The configuration: TOML, read into attrs classes by cattrs, without guessing.

A value of another type than expected is a mistake, not something to convert; so is a name that nobody reads.  Each
mistake is told with its path (`sources[0].write_kyes`) and, where there is one, the nearest valid name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

import attrs
from attrs import validators
from cattrs import (
    AttributeValidationNote,
    BaseValidationError,
    ClassValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override
from trackcore_delivery import ByteCount, DeliveredDestination, Secret

from trackcore import DEFAULT_LIMITS, Destination, JSONObject, Limits, Source, TrackcoreError
from trackcore.integrations import ALL
from trackcore_server.kafka_log import ClientSettings, KafkaLogSettings, as_client_settings
from trackcore_server.kinds import KINDS
from trackcore_server.units import parse_age, parse_bind, parse_size

MEBIBYTE = 1 << 20

LOG_KINDS = ("sqlite", "kafka")


@attrs.define(kw_only=True, eq=False)
class ConfigurationMistake(TrackcoreError):
    """The configuration cannot be used as it is.

    `path` is where in the file (`sources[0].write_kyes`), empty for the file as a whole; `file` is None where the
    configuration did not come from a file.
    """

    detail: str
    path: str = ""
    file: Path | None = None

    def __str__(self) -> str:
        return ": ".join(str(part) for part in (self.file, self.path, self.detail) if part)


def _check_kind(_: object, __: object, kind: str) -> None:
    if kind not in LOG_KINDS:
        hint = nearest(kind, LOG_KINDS) or f"; there are {', '.join(LOG_KINDS)}"
        raise ValueError(f"there is no kind of log {kind!r}{hint}")


def _check_bind(_: object, __: object, bind: str) -> None:
    parse_bind(bind)


def _check_keep(_: object, __: object, keep: timedelta | None) -> None:
    if keep is not None and not keep:
        raise ValueError("expected an age of at least a second: nothing would be kept")


@attrs.frozen(kw_only=True)
class LogSettings:
    """Where the log is, for how long it keeps what it has, and how many bytes of what was not accepted.

    Without `keep` messages are kept for good.
    """

    kind: str = attrs.field(default="sqlite", validator=_check_kind)
    path: Path = Path("trackcore.db")
    keep: timedelta | None = attrs.field(default=None, validator=_check_keep)
    rejected_bytes: ByteCount = ByteCount(256 * MEBIBYTE)
    quarantine_bytes: ByteCount = ByteCount(64 * MEBIBYTE)

    @property
    def location(self) -> str:
        """Where the log is, for people."""
        return str(self.path)


@attrs.frozen(kw_only=True)
class ServerSettings:
    """How HTTP is served.

    One worker (a process) is the default: its threads commit together, so that many clients share one fsync. More
    workers use more processors; they take turns at the log. `proxy_hops` is how many reverse proxies stand in front,
    whose word on the client's address is believed.
    """

    bind: str = attrs.field(default="127.0.0.1:8080", validator=_check_bind)
    workers: int = attrs.field(default=1, validator=validators.ge(1))
    threads: int = attrs.field(default=16, validator=validators.ge(1))
    proxy_hops: int = attrs.field(default=0, validator=validators.ge(0))


@attrs.frozen(kw_only=True)
class DebuggerSettings:
    """Who may look at the debugger: whoever has the token.  Without one there is no debugger."""

    token: Secret | None = None


@attrs.frozen(kw_only=True)
class DeliverySettings:
    """Where it is kept how far delivery has come, and how many bytes of dead letters each destination may have.

    Without a path that is beside the log: `trackcore-delivery.db` for `trackcore.db`.  With a log in Kafka it is a file
    of that name in the folder of the configuration, or in the data folder; then each process that delivers has its own,
    for its counters and dead letters, while how far it has come is known to the consumer group.
    """

    path: Path | None = None
    dead_letter_bytes: ByteCount = ByteCount(64 * MEBIBYTE)


@attrs.frozen(kw_only=True)
class Configuration:
    """All that a server is told.  Paths are as written; `load_configuration` makes them absolute.

    A destination of a kind, a `DeliveredDestination`, is delivered to; for any other it is only decided which messages
    it would get.
    """

    sources: tuple[Source, ...] = ()
    destinations: tuple[Destination, ...] = ()
    log: LogSettings | KafkaLogSettings = LogSettings()
    delivery: DeliverySettings = DeliverySettings()
    server: ServerSettings = ServerSettings()
    debugger: DebuggerSettings = DebuggerSettings()
    limits: Limits = DEFAULT_LIMITS

    @property
    def delivered(self) -> tuple[DeliveredDestination, ...]:
        """The destinations that messages are delivered to."""
        return tuple(item for item in self.destinations if isinstance(item, DeliveredDestination))

    @property
    def delivery_path(self) -> Path:
        """The file that keeps how far delivery has come, or with a log in Kafka, what has become of messages."""
        if self.delivery.path is not None:
            return self.delivery.path
        if isinstance(self.log, KafkaLogSettings):
            return Path("trackcore-delivery.db")
        return self.log.path.with_name(f"{self.log.path.stem}-delivery.db")

    @property
    def folder(self) -> Path:
        """What paths in the settings of destinations are relative to: the folder of the log, or of that file."""
        return (self.delivery_path if isinstance(self.log, KafkaLogSettings) else self.log.path).parent

    @property
    def log_path(self) -> Path:
        """The file of the embedded log.  Raises `ConfigurationMistake` where the log is another."""
        if isinstance(self.log, KafkaLogSettings):
            raise ConfigurationMistake(path="log.kind", detail="this needs a log of the kind 'sqlite'")
        return self.log.path


def load_configuration(file: Path, *, folder: Path | None = None) -> Configuration:
    """Read a configuration file.

    Args:
        file: the TOML file.
        folder: what a relative `log.path` is relative to; the folder of the file unless given.

    Raises:
        ConfigurationMistake: it cannot be read, is no TOML, or says something that makes no sense.
    """
    try:
        configuration = parse_configuration(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationMistake(file=file, detail=f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationMistake(file=file, detail=f"is not UTF-8, at byte {error.start}") from error
    except ConfigurationMistake as mistake:
        raise attrs.evolve(mistake, file=file) from None
    return rebase(configuration, file.parent if folder is None else folder)


def parse_configuration(text: str) -> Configuration:
    """Read the text of a configuration file.  Raises `ConfigurationMistake`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationMistake(detail=f"is not TOML: {error}") from error
    try:
        configuration = _converter.structure(document, Configuration)
    except BaseValidationError as error:
        raise _mistake_in(error, "") from error
    check_configuration(configuration)
    return configuration


def rebase(configuration: Configuration, folder: Path) -> Configuration:
    """Make paths absolute, taking them as relative to `folder`."""
    base = Path.cwd() / folder
    log = configuration.log
    if isinstance(log, LogSettings):
        log = attrs.evolve(log, path=base / log.path)
    delivery = configuration.delivery
    if delivery.path is not None or isinstance(log, KafkaLogSettings):
        delivery = attrs.evolve(delivery, path=base / configuration.delivery_path)
    return attrs.evolve(configuration, log=log, delivery=delivery)


def check_configuration(configuration: Configuration) -> None:
    """Check what no single field can know.  Raises `ConfigurationMistake` for the first thing that is wrong."""
    wrong_destinations = _wrong_destinations(configuration.destinations)
    for path, detail in (*wrong_destinations, *_wrong_sources(configuration), *_wrong_log(configuration)):
        raise ConfigurationMistake(path=path, detail=detail)


# Checks across fields: each gives the path and the detail of what is wrong.


def _wrong_destinations(destinations: Sequence[Destination]) -> Iterator[tuple[str, str]]:
    yield from _wrong_names("destinations", [destination.name for destination in destinations])
    for index, destination in enumerate(destinations):
        if destination.name == ALL:
            yield f"destinations[{index}].name", f"{ALL!r} means all destinations, so none can have that name"


def _wrong_sources(configuration: Configuration) -> Iterator[tuple[str, str]]:
    yield from _wrong_names("sources", [source.name for source in configuration.sources])
    owners: dict[str, str] = {}
    known = [destination.name for destination in configuration.destinations]
    for index, source in enumerate(configuration.sources):
        path = f"sources[{index}]"
        if not source.write_keys:
            yield f"{path}.write_keys", "a source needs at least one write key"
        for place, key in enumerate(source.write_keys):
            if not key:
                yield f"{path}.write_keys[{place}]", "a write key cannot be empty"
            elif key in owners:
                yield f"{path}.write_keys[{place}]", f"this write key already belongs to source {owners[key]!r}"
            owners[key] = source.name
        for place, name in enumerate(source.destinations or ()):
            if name not in known:
                yield f"{path}.destinations[{place}]", f"there is no destination {name!r}{nearest(name, known)}"


def _wrong_log(configuration: Configuration) -> Iterator[tuple[str, str]]:
    log = configuration.log
    if not isinstance(log, KafkaLogSettings):
        return
    if log.min_insync_replicas > log.replication:
        yield "log.min_insync_replicas", f"there are only {log.replication} replicas, by `log.replication`"


def _wrong_names(path: str, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for index, name in enumerate(names):
        if not name:
            yield f"{path}[{index}].name", "a name cannot be empty"
        elif name in names[:index]:
            yield f"{path}[{index}].name", f"{name!r} is already the name of {path}[{names.index(name)}]"


def nearest(name: str, valid: Sequence[str]) -> str:
    """Give the end of a sentence that names the valid name nearest to a wrong one, if any is near."""
    matches = get_close_matches(name, valid, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


# Structuring

_KINDS: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number with a fraction",
    list: "an array",
    dict: "a table",
}


def _kind_of(value: object) -> str:
    return _KINDS.get(type(value), "a date or time")


def _exactly(kind: type) -> Callable[[Any, Any], Any]:
    """Take values of this very type: no truth from numbers, no text from anything."""

    def structure(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"expected {_KINDS[kind]}, found {_kind_of(value)}")
        return value

    return structure


def _from_text(read: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    text = _exactly(str)
    return lambda value, kind: read(text(value, kind))


def _as_byte_count(value: Any, _: Any) -> int:
    if type(value) is int and value >= 0:
        return value
    if type(value) is not str:
        raise ValueError(f"expected a number of bytes or a size such as '64 MiB', found {value!r}")
    return parse_size(value)


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _is_table(kind: Any) -> bool:
    return get_origin(kind) is dict


def _tuple_hook(kind: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    item_type = get_args(kind)[0]

    def structure(value: Any, _: Any) -> Any:
        if type(value) is not list:
            expected = "an array of tables, `[[...]]`" if attrs.has(item_type) else "an array"
            raise ValueError(f"expected {expected}, found {_kind_of(value)}")
        items: list[Any] = converter.structure(value, list[item_type])  # type: ignore[valid-type]
        return tuple(items)

    return structure


def _class_hook(cls: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    """Structure a table, and run the validators on each field while it is still known which one it is."""

    def checked(field: Any) -> Callable[[Any, Any], Any]:
        def structure(value: Any, kind: Any) -> Any:
            structured = converter.structure(value, kind)
            if field.validator is not None:
                field.validator(None, field, structured)
            return structured

        return structure

    overrides: Any = {field.name: override(struct_hook=checked(field)) for field in attrs.fields(cls)}
    structure_table = make_dict_structure_fn(cls, converter, **overrides)

    def structure(value: Any, kind: Any) -> Any:
        table: JSONObject = _exactly(dict)(value, kind)
        return structure_table(table, kind)

    return structure


def _destination_hook(converter: Converter) -> Callable[[Any, Any], Any]:
    """Structure a destination by its `kind`, or as one that nothing is delivered to."""
    plain = _class_hook(Destination, converter)
    of_kind = {name: _class_hook(kind, converter) for name, kind in KINDS.items()}

    def structure(value: Any, _: Any) -> Any:
        table: JSONObject = _exactly(dict)(value, Destination)
        if "kind" not in table:
            return plain(table, Destination)
        settings = {**table}
        kind = settings.pop("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            hint = nearest(str(kind), list(KINDS)) or f"; there are {', '.join(KINDS)}"
            error = ValueError(f"there is no kind of destination {kind!r}{hint}")
            error.add_note(AttributeValidationNote("", "kind", str))
            raise ClassValidationError("", [error], Destination)
        return of_kind[kind](settings, KINDS[kind])

    return structure


def _table_hook(kind: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    """Structure a table whose names are free, such as HTTP headers."""
    value_type = get_args(kind)[1]

    def structure(value: Any, _: Any) -> Any:
        table: JSONObject = _exactly(dict)(value, kind)
        return {name: converter.structure(item, value_type) for name, item in table.items()}

    return structure


def _log_hook(converter: Converter) -> Callable[[Any, Any], Any]:
    """Structure the log by its `kind`.  A wrong kind is told by the default one."""

    def structure(value: Any, _: Any) -> Any:
        is_kafka = type(value) is dict and value.get("kind") == "kafka"
        return converter.structure(value, KafkaLogSettings if is_kafka else LogSettings)

    return structure


def _make_converter() -> Converter:
    converter = Converter(forbid_extra_keys=True)
    converter.register_structure_hook_factory(attrs.has, _class_hook)
    converter.register_structure_hook_factory(_is_tuple, _tuple_hook)
    converter.register_structure_hook_factory(_is_table, _table_hook)
    converter.register_structure_hook(Secret, _from_text(Secret))
    for kind in (str, bool, int):
        converter.register_structure_hook(kind, _exactly(kind))
    converter.register_structure_hook(ByteCount, _as_byte_count)
    converter.register_structure_hook(timedelta, _from_text(parse_age))
    converter.register_structure_hook(Path, _from_text(Path))
    converter.register_structure_hook(Destination, _destination_hook(converter))
    converter.register_structure_hook(ClientSettings, as_client_settings)
    converter.register_structure_hook(LogSettings | KafkaLogSettings, _log_hook(converter))
    return converter


_converter = _make_converter()


# From what cattrs raises to the mistake that is told


def _mistake_in(error: BaseException, path: str) -> ConfigurationMistake:
    """Follow the first error down to its place.  An unknown name comes first: it may be why another is missing."""
    if isinstance(error, BaseValidationError):
        causes = sorted(error.exceptions, key=lambda cause: not isinstance(cause, ForbiddenExtraKeysError))
        return _mistake_in(causes[0], path + _step(causes[0], is_first=not path))
    if isinstance(error, ForbiddenExtraKeysError):
        name = min(error.extra_fields)
        valid = [field.name for field in attrs.fields(error.cl)]
        if issubclass(error.cl, Destination):
            valid.append("kind")
        hint = nearest(name, valid) or f"; there are {', '.join(valid)}"
        return ConfigurationMistake(path=f"{path}.{name}".lstrip("."), detail=f"there is no such setting{hint}")
    if isinstance(error, KeyError):
        return ConfigurationMistake(path=path, detail="is missing")
    return ConfigurationMistake(path=path, detail=str(error))


def _step(error: BaseException, *, is_first: bool) -> str:
    """Read from the note that cattrs leaves on an error where, within its parent, it happened."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return note.name if is_first else f".{note.name}"
        if isinstance(note, IterableValidationNote):
            return f"[{note.index}]"
    return ""
