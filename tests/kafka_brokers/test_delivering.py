"""Delivery from real brokers, shared by processes that are killed under load."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from adapter_helpers import eventually
from delivery_helpers import HttpEndpoint
from delivery_processes import Running
from kafka_brokers.brokers import Brokers
from kafka_brokers.load import Load
from kafka_helpers import COMMAND, Served, configure, start
from trackcore_kafka import KafkaLog, KafkaTopics

PARTITIONS = 6
BATCH = 50
UNDER_LOAD = 300
KILLS = 5
PATIENCE = 180.0

_WEBHOOK = """
[log.client]
session.timeout.ms = 6000
[[destinations]]
name = "There"
kind = "webhook"
url = "{url}"
batch_messages = {batch}
batch_wait = "0s"
"""


@attrs.define
class Site:
    """An endpoint, and the processes that deliver to it, each with a folder and a state file of its own."""

    folder: Path
    endpoint: HttpEndpoint = attrs.field(factory=HttpEndpoint)
    running: list[Running] = attrs.field(factory=list)

    def configure(self, name: str, servers: str, prefix: str) -> Path:
        """Write the configuration of one process."""
        (self.folder / name).mkdir()
        more = _WEBHOOK.format(url=self.endpoint.url, batch=BATCH)
        return configure(self.folder / name, servers, prefix=prefix, partitions=PARTITIONS, min_insync=2, more=more)

    def deliver(self, config: Path) -> Running:
        """Start to deliver."""
        stderr_file = config.with_name(f"stderr-{len(self.running)}")
        with stderr_file.open("wb") as stderr:
            command = [*COMMAND, "deliver", "--config", str(config)]
            process = subprocess.Popen(command, stderr=stderr, start_new_session=True)
        self.running.append(Running(process, stderr_file))
        return self.running[-1]

    def await_arrivals(self, count: int) -> None:
        """Wait until so many more messages have arrived."""
        wanted = len(self.endpoint.ids) + count
        eventually(lambda: len(self.endpoint.ids) >= wanted, patience=PATIENCE)


@pytest.fixture(name="site")
def _site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    for running in site.running:
        running.kill()
    site.endpoint.stop()


def test_killed_under_load(whole: Brokers, prefix: str, site: Site, servers: list[Served], report: list[str]) -> None:
    """Every acknowledged message arrives, in order for each user; only what was in flight arrives twice."""
    configs = [site.configure(name, whole.servers, prefix) for name in ("one", "other")]
    servers.append(start(configs[0], "--workers", "2", "--no-deliver"))
    delivering = [site.deliver(config) for config in configs]
    load = Load(servers[0], senders=8)
    load.start()
    for kill in range(KILLS):
        site.await_arrivals(UNDER_LOAD)
        delivering[kill % 2].kill()
        site.await_arrivals(UNDER_LOAD)  # by the other one
        delivering[kill % 2] = site.deliver(configs[kill % 2])
    whole.all[0].kill()
    site.await_arrivals(UNDER_LOAD)
    whole.all[0].start()
    whole.await_whole()
    load.finish()
    sent = {message_id for ids in load.acknowledged.values() for message_id in ids}
    eventually(lambda: sent <= set(site.endpoint.ids), patience=PATIENCE)
    for running in delivering:
        assert running.terminate() == 0, running.stderr()
        assert "Traceback" not in running.stderr()
    arrived = site.endpoint.ids
    in_first_order = list(dict.fromkeys(arrived))
    for user, ids in load.acknowledged.items():
        assert [message_id for message_id in in_first_order if message_id.startswith(f"{user}-")] == ids
    twice = len(arrived) - len(sent)
    log = KafkaLog(whole.address, KafkaTopics(prefix=prefix, partitions=PARTITIONS))
    assert log.behind(f"{prefix}.delivery.There") == 0
    report.append(f"{len(sent)} messages delivered through {KILLS} kills and the loss of a broker; {twice} twice")
    assert twice <= (KILLS + 2) * BATCH
