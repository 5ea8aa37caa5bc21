"""Helpers of the tests on Kafka: a configuration for a log in a cluster, and `trackcore` commands on it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from adapter_helpers import envelope
from confluent_kafka import KafkaError
from mock_cluster import INIT_PRODUCER_ID, PRODUCE
from patience import PATIENCE, wait_for
from served import COMMAND, Answered, Served
from trackcore_kafka import KafkaSink

from trackcore import SinkUnavailable

KEY = "abc123"
FATAL = [
    (PRODUCE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER),
    (INIT_PRODUCER_ID, KafkaError.CLUSTER_AUTHORIZATION_FAILED),
]
"""Requests and answers to them after which an idempotent producer cannot be used any more."""


_CONFIGURATION = """
[[sources]]
name = "website"
write_keys = ["{key}"]

[[destinations]]
name = "Mixpanel"

[log]
kind = "kafka"
bootstrap_servers = "{servers}"
topic_prefix = "{prefix}"
partitions = {partitions}
replication = {replication}
min_insync_replicas = {min_insync}
{more}
"""


def configure(
    folder: Path,
    servers: str,
    *,
    prefix: str,
    partitions: int = 3,
    replication: int = 3,
    min_insync: int = 1,
    more: str = "",
) -> Path:
    """Write a configuration of one source whose log is in a cluster."""
    file = folder / f"{prefix}.toml"
    file.write_text(
        _CONFIGURATION.format(
            key=KEY,
            servers=servers,
            prefix=prefix,
            partitions=partitions,
            replication=replication,
            min_insync=min_insync,
            more=more,
        )
    )
    return file


def start(config: Path, *arguments: str) -> Served:
    """Start a server on a free port, and wait until it could store."""
    stderr_file = config.parent / f"stderr-{len(list(config.parent.iterdir()))}"
    served = Served.start(stderr_file, "--config", str(config), *arguments)
    served.wait_until_listening()
    wait_for(served.is_ready)
    return served


def send(served: Served, body: Any) -> Answered:
    """Send a batch to a server."""
    return served.ask("POST", "/v1/batch", body, KEY)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command in another process."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def lines(done: subprocess.CompletedProcess[str]) -> list[Any]:
    """Read its output as JSON lines."""
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def connect(sink: KafkaSink) -> None:
    """Store a message first, which may take longer than a short timeout allows."""

    def is_stored() -> bool:
        try:
            return bool(sink.store([envelope("before")]))
        except SinkUnavailable:
            return False

    wait_for(is_stored)
