"""The configuration: TOML, read into attrs classes by cattrs, without guessing.

A value of another type than expected is a mistake, not something to convert; so is a name that nobody reads.  Each
error has the path of the mistake (`sources[0].write_kyes`) and, if there is one, the nearest valid name.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import attrs
from cattrs import BaseValidationError
from trackcore_delivery import ByteCount, DeliveredDestination

from trackcore import DEFAULT_LIMITS, Destination, Limits, Source, TrackcoreError
from trackcore.support import MEBIBYTE
from trackcore_server.config.converter import describe_errors
from trackcore_server.config.faults import faults_across
from trackcore_server.config.kafka_log import KafkaLogSettings
from trackcore_server.config.log import LogSettings, check_file_name
from trackcore_server.config.metrics import MetricsSettings
from trackcore_server.config.mistakes import is_within, without_mistakes
from trackcore_server.config.plans import PlannedSource
from trackcore_server.config.privacy import AdminSettings, PrivacySettings
from trackcore_server.config.server import DebuggerSettings, ServerSettings
from trackcore_server.config.structuring import converter


@attrs.define(kw_only=True, eq=False)
class ConfigurationError(TrackcoreError):
    """The configuration cannot be used as it is.

    `path` is where in the file (`sources[0].write_kyes`), empty for the file as a whole; `file` is None where the
    configuration did not come from a file.
    """

    detail: str
    path: str = ""
    file: Path | None = None


@attrs.frozen(kw_only=True)
class DeliverySettings:
    """The file for the progress of delivery, and how many bytes of dead letters each destination may have.

    Without a path it is next to the log: `trackcore-delivery.db` for `trackcore.db`.  With a log in Kafka it is a file
    of that name in the folder of the configuration, or in the data folder; then each process that delivers has its own,
    for its counters and dead letters, while the consumer group knows its progress.
    """

    path: Path | None = attrs.field(default=None, validator=check_file_name)
    dead_letter_bytes: ByteCount = ByteCount(64 * MEBIBYTE)


@attrs.frozen(kw_only=True)
class Configuration:
    """The whole configuration of a server.  Paths are as written; `load_configuration` makes them absolute.

    Messages are delivered to a destination of a kind, a `DeliveredDestination`; for any other the server only decides
    which messages it would get.
    """

    sources: tuple[Source, ...] = ()
    destinations: tuple[Destination, ...] = ()
    log: LogSettings | KafkaLogSettings = attrs.field(factory=LogSettings)
    delivery: DeliverySettings = attrs.field(factory=DeliverySettings)
    server: ServerSettings = attrs.field(factory=ServerSettings)
    debugger: DebuggerSettings = attrs.field(factory=DebuggerSettings)
    privacy: PrivacySettings = attrs.field(factory=PrivacySettings)
    admin: AdminSettings = attrs.field(factory=AdminSettings)
    metrics: MetricsSettings = attrs.field(factory=MetricsSettings)
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
    def privacy_path(self) -> Path:
        """The file of suppressed persons, beside the log, or with a log in Kafka in the folder for paths."""
        name = self.log.paths[0].stem if self.log.paths else "trackcore"
        return self.folder / f"{name}-privacy.db"

    @property
    def folder(self) -> Path:
        """The base of paths in the settings of destinations: the folder of the log, or of the file for delivery."""
        return (*self.log.paths, self.delivery_path)[0].parent


def load_configuration(file: Path, *, folder: Path | None = None) -> Configuration:
    """Read a TOML file.  Relative paths of data start at `folder`; if that is None, at `[server] data`.

    Raises `ConfigurationError` if it cannot be read, is not TOML, or has a setting that makes no sense.
    """
    try:
        configuration = parse_configuration(read_text(file))
    except ConfigurationError as mistake:
        raise attrs.evolve(mistake, file=file) from None
    return rebase(configuration, folder, file=file)


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
        configuration = converter.structure(document, Configuration)
    except BaseValidationError as error:
        found = list(describe_errors(error))
        tables = {name: value for name, value in document.items() if name in attrs.fields_dict(Configuration)}
        configuration = converter.structure(without_mistakes(tables, [path for path, _ in found]), Configuration)
    paths = [path for path, _ in found]
    found += [fault for fault in faults_across(configuration) if not is_within(fault[0], paths)]
    return configuration, [ConfigurationError(path=path, detail=detail) for path, detail in found]


def rebase(configuration: Configuration, folder: Path | None, *, file: Path | None = None) -> Configuration:
    """Make paths absolute: those of data start at `folder`, those of files to read beside `file`, the configuration.

    Without a folder, data is in `[server] data`; without a file, all paths start at the folder.
    """
    beside = Path.cwd() / (folder or "" if file is None else file.parent)
    base = beside / configuration.server.data if folder is None else Path.cwd() / folder
    log, delivery = configuration.log.rebased(base), configuration.delivery
    if delivery.path is not None or not log.paths:  # else its file is beside that of the log, wherever that is
        delivery = attrs.evolve(delivery, path=base / configuration.delivery_path)
    sources = tuple(_rebased(source, beside) for source in configuration.sources)
    script = configuration.server.analytics_js
    server = attrs.evolve(configuration.server, data=base, analytics_js=None if script is None else beside / script)
    return attrs.evolve(configuration, sources=sources, log=log, delivery=delivery, server=server)


def _rebased(source: Source, base: Path) -> Source:
    if not isinstance(source, PlannedSource) or source.plan is None:
        return source
    return attrs.evolve(source, plan=base / source.plan)


def contents_of(configuration: Configuration) -> str:
    """Return how much is configured: `2 sources, 1 destination`."""
    sources, destinations = len(configuration.sources), len(configuration.destinations)
    return f"{counted(sources, 'source')}, {counted(destinations, 'destination')}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def check_configuration(configuration: Configuration) -> None:
    """Check rules across fields.  Raises `ConfigurationError` for the first mistake."""
    for path, detail in faults_across(configuration):
        raise ConfigurationError(path=path, detail=detail)
