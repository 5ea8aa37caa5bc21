"""The settings of a log in Kafka: `[log]` with `kind = "kafka"`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, NewType, TypeAlias

import attrs
from attrs import validators
from cattrs import AttributeValidationNote, ClassValidationError
from trackcore_delivery import ByteCount, Secret

from trackcore import JSONObject
from trackcore.support import MEBIBYTE
from trackcore_server.config.log import LogSettings

ClientSetting: TypeAlias = str | int | float | bool

ClientSettings = NewType("ClientSettings", dict[str, ClientSetting])
"""Settings of librdkafka by their names.  In TOML `sasl.username = "me"` may be written with quotes or without."""

_TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
_SERVERS = re.compile(r"[^\s,]+:\d{1,5}(,\s*[^\s,]+:\d{1,5})*")


def check_servers(_: object, __: object, servers: str) -> None:
    """Check the addresses of a cluster (an attrs validator)."""
    if not _SERVERS.fullmatch(servers):
        raise ValueError("expected HOST:PORT, or several separated by commas")
    if "@" in servers:
        raise ValueError("a password in an address would appear in logs; set `sasl.username` and `sasl.password`")


def check_topic(_: object, __: object, name: str) -> None:
    """Check the name of a topic, or its prefix (an attrs validator)."""
    if not _TOPIC_NAME.fullmatch(name):
        raise ValueError("expected at most 200 letters, digits, '.', '_' and '-'")


def check_timeout(_: object, __: object, timeout: timedelta) -> None:
    """Check how long acknowledgements may take (an attrs validator)."""
    if timeout < timedelta(seconds=1):
        raise ValueError("must be at least 1 second")


@attrs.frozen(kw_only=True)
class KafkaLogSettings:
    """The addresses of the cluster and the settings of the topics.

    A message is stored when `min_insync_replicas` of its `replication` copies have it.  `timeout` is how long a request
    waits for that.  `retention` is how long messages are kept; by default the brokers decide.  `duplicate_window` is
    how many offsets of a partition readers search back for duplicates.  `client` is passed to librdkafka.
    """

    kind: str = "kafka"
    bootstrap_servers: str = attrs.field(validator=check_servers)
    topic_prefix: str = attrs.field(default="trackcore", validator=check_topic)
    partitions: int = attrs.field(default=12, validator=validators.ge(1))
    replication: int = attrs.field(default=3, validator=validators.ge(1))
    min_insync_replicas: int = attrs.field(default=2, validator=validators.ge(1))
    timeout: timedelta = attrs.field(default=timedelta(seconds=8), validator=check_timeout)
    retention: timedelta | None = None
    duplicate_window: int = attrs.field(default=20_000, validator=validators.ge(0))
    rejected_bytes: ByteCount = ByteCount(256 * MEBIBYTE)
    quarantine_bytes: ByteCount = ByteCount(64 * MEBIBYTE)
    client: ClientSettings = attrs.field(factory=lambda: ClientSettings({}), repr=False)  # it may have secrets

    has_debugger: ClassVar[bool] = False

    @property
    def location(self) -> str:
        """See `LogSettings.location`."""
        return f"Kafka at {self.bootstrap_servers}, topics {self.topic_prefix}.*"

    @property
    def paths(self) -> tuple[Path, ...]:
        """See `LogSettings.paths`: there are none."""
        return ()

    @property
    def delivery_path(self) -> Path:
        """See `LogSettings.delivery_path`."""
        return Path("trackcore-delivery.db")

    def in_file(self, path: Path) -> LogSettings:
        """Return settings for a log in a file."""
        return LogSettings(path=path)

    def rebased(self, base: Path) -> KafkaLogSettings:
        """Return the settings, in which there are no paths."""
        del base
        return self

    def faults(self) -> Iterator[tuple[str, str]]:
        """See `LogSettings.faults`."""
        if self.min_insync_replicas > self.replication:
            yield "log.min_insync_replicas", f"there are only {self.replication} replicas, by `log.replication`"


def named_secrets(client: ClientSettings) -> Iterator[tuple[str, Secret]]:
    """Yield the settings that only name an environment variable: `env:NAME`.

    Certificates and keys in PEM have several lines.
    """
    for name, value in client.items():
        if isinstance(value, str) and value.startswith("env:"):
            yield name, Secret(value, has_lines=name.endswith(".pem"))


def as_client_settings(value: Any, _: object) -> ClientSettings:
    """Read a table of settings (a cattrs hook).  Nested tables form dotted names."""
    if type(value) is not dict:
        raise ValueError("expected a table of settings of librdkafka")
    return ClientSettings(_flat(value, ""))


def _flat(table: JSONObject, prefix: str) -> dict[str, ClientSetting]:
    settings: dict[str, ClientSetting] = {}
    for part, value in table.items():
        name = prefix + part
        if isinstance(value, dict):
            settings |= _flat(value, f"{name}.")
        elif isinstance(value, str | int | float | bool):
            settings[name] = value
        else:
            error = ValueError("expected a string, a number or a boolean")
            error.add_note(AttributeValidationNote("", name, str))
            raise ClassValidationError("", [error], KafkaLogSettings)
    return settings
