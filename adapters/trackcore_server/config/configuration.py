"""The configuration: TOML, read into attrs classes by cattrs, without guessing.

A value of another type than expected is a mistake, not something to convert; so is a name that nobody reads.  Each
error has the path of the mistake (`sources[0].write_kyes`) and, if there is one, the nearest valid name.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import attrs
from attrs import validators
from cattrs import AttributeValidationNote, BaseValidationError, ClassValidationError, Converter
from trackcore_delivery import ByteCount, DeliveredDestination, Secret
from trackcore_http import ROUTES, X_FORWARDED_FOR, Proxies, as_networks

from trackcore import DEFAULT_LIMITS, ConsentRule, Destination, JSONObject, Limits, Source, TrackcoreError
from trackcore.plans import OnCommonViolation
from trackcore.support import ALL, MEBIBYTE
from trackcore_server.config.consent import consent_hook
from trackcore_server.config.converter import class_hook, describe_errors, exactly, nearest, strict_converter
from trackcore_server.config.kafka_log import ClientSettings, KafkaLogSettings, as_client_settings
from trackcore_server.config.kinds import KINDS
from trackcore_server.config.mistakes import is_within, without_mistakes
from trackcore_server.config.plans import CONTROLS, PlannedSource, as_common_violation, segments_name
from trackcore_server.config.units import parse_bind

LOG_KINDS = ("sqlite", "kafka")


@attrs.define(kw_only=True, eq=False)
class ConfigurationError(TrackcoreError):
    """The configuration cannot be used as it is.

    `path` is where in the file (`sources[0].write_kyes`), empty for the file as a whole; `file` is None where the
    configuration did not come from a file.
    """

    detail: str
    path: str = ""
    file: Path | None = None


def _check_kind(_: object, __: object, kind: str) -> None:
    if kind not in LOG_KINDS:
        hint = nearest(kind, LOG_KINDS) or f"; there are {', '.join(LOG_KINDS)}"
        raise ValueError(f"there is no such kind of log{hint}")


def _check_prefix(_: object, __: object, prefix: str) -> None:
    if prefix and not _PREFIX.fullmatch(prefix):
        raise ValueError("expected a path such as '/endpoint', without a slash at its end")
    taken = next((path for path in (*ROUTES, "/v1/projects", "/debugger") if f"{path}/".startswith(f"{prefix}/")), None)
    if prefix and taken is not None:
        raise ValueError(f"it cannot be distinguished from the path {taken!r} of the API; choose another")


_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")


def _check_ranges(_: object, __: object, ranges: Sequence[str]) -> None:
    for place, text in enumerate(ranges, 1):
        try:
            as_networks([text])
        except ValueError:
            raise ValueError(f"number {place} is not a range of addresses, such as '10.0.0.0/8' or '::1'") from None


def _check_proxy_header(_: object, __: object, header: str) -> None:
    Proxies(header=header)


def _check_keep(_: object, __: object, keep: timedelta | None) -> None:
    if keep is not None and not keep:
        raise ValueError("expected an age of at least a second: nothing would be kept")


def _check_file(_: object, __: object, path: Path | None) -> None:
    if path is not None and not path.name:
        raise ValueError(f"expected the name of a file, found {str(path)!r}")


@attrs.frozen(kw_only=True)
class LogSettings:
    """Where the log is, how long it keeps its records, and how many bytes of rejected and quarantined ones.

    Without `keep` messages are kept forever.
    """

    kind: str = attrs.field(default="sqlite", validator=_check_kind)
    path: Path = attrs.field(default=Path("trackcore.db"), validator=_check_file)
    keep: timedelta | None = attrs.field(default=None, validator=_check_keep)
    rejected_bytes: ByteCount = ByteCount(256 * MEBIBYTE)
    quarantine_bytes: ByteCount = ByteCount(64 * MEBIBYTE)

    has_debugger: ClassVar[bool] = True
    """Whether the debugger can read such a log."""

    @property
    def location(self) -> str:
        """Where the log is, for people."""
        return str(self.path)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files on this machine that have the log."""
        return (self.path,)

    @property
    def delivery_path(self) -> Path:
        """The file for the state of delivery, unless another one is configured."""
        return self.path.with_name(f"{self.path.stem}-delivery.db")

    def rebased(self, base: Path) -> LogSettings:
        """Return the settings with paths that are absolute, or relative to a folder."""
        return attrs.evolve(self, path=base / self.path)

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yield the path and the detail of each fault that no single setting shows."""
        yield from ()


@attrs.frozen(kw_only=True)
class ServerSettings:
    """The data folder, and how HTTP is served.

    `data` is the base of the other paths; itself it starts at the folder of the configuration.
    One worker (a process) is the default: its requests commit together, so that many clients share one fsync. More
    workers use more processors; they take turns at the log. `threads` is obsolete: a worker serves its requests in one
    loop. `proxy_hops` is how many reverse proxies are in front, whose headers on the client's address are trusted;
    `trusted_proxies` are their addresses instead, and `proxy_header` is the header that they use. With a `prefix` such
    as `/endpoint`, everything is also served below that path.
    """

    data: Path = Path()
    bind: str = attrs.field(default="127.0.0.1:8080", validator=lambda _, __, bind: parse_bind(bind))
    workers: int = attrs.field(default=1, validator=validators.ge(1))
    threads: int | None = attrs.field(default=None, validator=validators.optional(validators.ge(1)))
    proxy_hops: int = attrs.field(default=0, validator=validators.ge(0))
    trusted_proxies: tuple[str, ...] = attrs.field(default=(), validator=_check_ranges)
    proxy_header: str = attrs.field(default=X_FORWARDED_FOR, validator=_check_proxy_header)
    prefix: str = attrs.field(default="", validator=_check_prefix)

    @property
    def proxies(self) -> Proxies:
        """The proxies in front that are trusted."""
        return Proxies(hops=self.proxy_hops, ranges=self.trusted_proxies, header=self.proxy_header)


@attrs.frozen(kw_only=True)
class DebuggerSettings:
    """Access to the debugger: it needs the token.  Without one the debugger is off."""

    token: Secret | None = None


@attrs.frozen(kw_only=True)
class DeliverySettings:
    """The file for the progress of delivery, and how many bytes of dead letters each destination may have.

    Without a path it is next to the log: `trackcore-delivery.db` for `trackcore.db`.  With a log in Kafka it is a file
    of that name in the folder of the configuration, or in the data folder; then each process that delivers has its own,
    for its counters and dead letters, while the consumer group knows its progress.
    """

    path: Path | None = attrs.field(default=None, validator=_check_file)
    dead_letter_bytes: ByteCount = ByteCount(64 * MEBIBYTE)


@attrs.frozen(kw_only=True)
class Configuration:
    """The whole configuration of a server.  Paths are as written; `load_configuration` makes them absolute.

    Messages are delivered to a destination of a kind, a `DeliveredDestination`; for any other the server only decides
    which messages it would get.
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
        """The file for the progress of delivery, or with a log in Kafka, for the outcome of messages."""
        return self.log.delivery_path if self.delivery.path is None else self.delivery.path

    @property
    def folder(self) -> Path:
        """The base of paths in the settings of destinations: the folder of the log, or of the file for delivery."""
        return (*self.log.paths, self.delivery_path)[0].parent


def load_configuration(file: Path, *, folder: Path | None = None) -> Configuration:
    """Read a TOML file.  Relative paths start at `folder`; if that is None, at `[server] data`.

    Raises `ConfigurationError` if it cannot be read, is not TOML, or has a setting that makes no sense.
    """
    try:
        configuration = parse_configuration(read_text(file))
    except ConfigurationError as mistake:
        raise attrs.evolve(mistake, file=file) from None
    return rebase(configuration, file.parent / configuration.server.data if folder is None else folder)


def read_text(file: Path) -> str:
    """Read a file.  Raises `ConfigurationError` if that is impossible."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(file=file, detail=f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(file=file, detail=f"is not UTF-8, at byte {error.start}") from None


def parse_configuration(text: str) -> Configuration:
    """Read the text of a configuration file.  Raises `ConfigurationError` for the first mistake."""
    configuration, mistakes = examine_configuration(text)
    for mistake in mistakes:
        raise mistake
    return configuration


def examine_configuration(text: str) -> tuple[Configuration, list[ConfigurationError]]:
    """Read the text of a configuration file, and return all mistakes in it.

    Where a setting is wrong, the configuration has the defaults for its table; a source or a destination has only its
    name.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return Configuration(), [ConfigurationError(detail=f"is not TOML: {error}")]
    found: list[tuple[str, str]] = []
    try:
        configuration = _converter.structure(document, Configuration)
    except BaseValidationError as error:
        found = list(describe_errors(error))
        tables = {name: value for name, value in document.items() if name in attrs.fields_dict(Configuration)}
        configuration = _converter.structure(without_mistakes(tables, [path for path, _ in found]), Configuration)
    paths = [path for path, _ in found]
    found += [fault for fault in _faults_across(configuration) if not is_within(fault[0], paths)]
    return configuration, [ConfigurationError(path=path, detail=detail) for path, detail in found]


def rebase(configuration: Configuration, folder: Path) -> Configuration:
    """Make paths absolute; relative ones start at `folder`, the data folder."""
    base = Path.cwd() / folder
    log, delivery = configuration.log.rebased(base), configuration.delivery
    if delivery.path is not None or not log.paths:  # else its file is beside that of the log, wherever that is
        delivery = attrs.evolve(delivery, path=base / configuration.delivery_path)
    sources = tuple(_rebased(source, base) for source in configuration.sources)
    server = attrs.evolve(configuration.server, data=base)
    return attrs.evolve(configuration, sources=sources, log=log, delivery=delivery, server=server)


def _rebased(source: Source, base: Path) -> Source:
    if not isinstance(source, PlannedSource) or source.plan is None:
        return source
    return attrs.evolve(source, plan=base / source.plan)


def check_configuration(configuration: Configuration) -> None:
    """Check rules across fields.  Raises `ConfigurationError` for the first mistake."""
    for path, detail in _faults_across(configuration):
        raise ConfigurationError(path=path, detail=detail)


def _faults_across(configuration: Configuration) -> Iterator[tuple[str, str]]:
    wrong_names = _wrong_destinations(configuration.destinations)
    sources, server = _wrong_sources(configuration), _wrong_server(configuration)
    yield from chain(wrong_names, sources, server, configuration.log.faults())


# Checks across fields: each yields the path and the detail of a mistake.


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
            if key in owners:
                yield f"{path}.write_keys[{place}]", f"this write key already belongs to source {owners[key]!r}"
            owners[key] = source.name
        yield from _wrong_forwards(path, source, [other.name for other in configuration.sources])
        for place, name in enumerate(source.destinations or ()):
            if name not in known:
                yield f"{path}.destinations[{place}]", f"there is no destination {name!r}{nearest(name, known)}"


def _wrong_forwards(path: str, source: Source, sources: Sequence[str]) -> Iterator[tuple[str, str]]:
    controls = source.plan_controls if isinstance(source, PlannedSource) else None
    for field in ("forwarding_violations_to", "forwarding_blocked_events_to") if controls is not None else ():
        name = getattr(controls, field)
        place = f"{path}.plan_controls.{segments_name(field)}"
        if name == source.name:
            yield place, "a source cannot forward to itself"
        elif name is not None and name not in sources:
            yield place, f"there is no source {name!r}{nearest(name, sources)}"


def _wrong_server(configuration: Configuration) -> Iterator[tuple[str, str]]:
    if configuration.server.proxy_hops and configuration.server.trusted_proxies:
        yield "server.trusted_proxies", "proxies are trusted by their addresses or by `proxy_hops`: remove one of both"


def _wrong_names(path: str, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for index, name in enumerate(names):
        if not name:
            yield f"{path}[{index}].name", "a name cannot be empty"
        elif name in names[:index]:
            yield f"{path}[{index}].name", f"{name!r} is already the name of {path}[{names.index(name)}]"


# Settings that are structured by their `kind`


def _destination_hook(converter: Converter) -> Callable[[Any, Any], Any]:
    """Structure a destination by its `kind`, or as one without delivery."""
    plain = class_hook(Destination, converter)
    of_kind = {name: class_hook(kind, converter) for name, kind in KINDS.items()}

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
        return of_kind[kind](settings, KINDS[kind])

    return structure


def _source_hook(converter: Converter) -> Callable[[Any, Any], Any]:
    """Structure a source; it is a `PlannedSource` only if it has a plan."""
    planned = class_hook(PlannedSource, converter)

    def structure(value: Any, _: Any) -> Any:
        source: PlannedSource = planned(value, PlannedSource)
        if source.plan is not None:
            return source
        if "plan_controls" in value:
            error = ValueError("there is no plan for these controls")
            error.add_note(AttributeValidationNote("", "plan_controls", PlannedSource))
            raise ClassValidationError("", [error], PlannedSource)
        return Source(**{field.name: getattr(source, field.name) for field in attrs.fields(Source)})

    return structure


def _structure_log(value: Any, _: Any) -> Any:
    """Structure the log by its `kind`.  The class of the default kind reports a wrong one."""
    is_kafka = type(value) is dict and value.get("kind") == "kafka"
    return _converter.structure(value, KafkaLogSettings if is_kafka else LogSettings)


_converter = strict_converter()
_converter.register_structure_hook(ConsentRule, consent_hook(_converter))
_converter.register_structure_hook(Destination, _destination_hook(_converter))
_converter.register_structure_hook(Source, _source_hook(_converter))
for _cls in CONTROLS:
    _converter.register_structure_hook(_cls, class_hook(_cls, _converter, segments_name))
_converter.register_structure_hook(OnCommonViolation, as_common_violation)
_converter.register_structure_hook(ClientSettings, as_client_settings)
_converter.register_structure_hook(LogSettings | KafkaLogSettings, _structure_log)
