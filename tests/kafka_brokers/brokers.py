"""Real brokers of Apache Kafka (KRaft), on loopback: three nodes that are controllers and brokers at once.

The jars come from Maven Central by Maven, once; they are kept in `.kafka-brokers/` in this repository.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import attrs
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from patience import PATIENCE, wait_for
from trackcore_kafka import KafkaCluster

POM = Path(__file__).with_name("pom.xml")
JARS = Path(__file__).parents[2] / ".kafka-brokers"
NODES = 3
_CLUSTER_ID = "dHJhY2tjb3JlLXRlc3RzMQ"
_MEMORY = "-Xmx320m"

_PROPERTIES = """
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=3
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=8388608
"""


def why_not() -> str | None:
    """Return why real brokers cannot run here, or None if they can; fetches their jars."""
    if shutil.which("java") is None:
        return "java (17 or newer) is missing"
    if list(JARS.glob("kafka_*.jar")):
        return None
    if shutil.which("mvn") is None:
        return "mvn, which fetches Kafka's jars, is missing"
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={JARS}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"Kafka's jars cannot be fetched: {done.stdout[-500:]}"


@attrs.define
class Broker:
    """One node, which can be killed and started again."""

    node: int
    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> Path:
        """The file with its settings."""
        return self.folder / "server.properties"

    def format(self) -> None:
        """Prepare its folder for the start."""
        command = _java("kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", self.settings)
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)

    def start(self) -> None:
        """Start it; it takes some seconds until it answers."""
        with (self.folder / "output").open("ab") as output:
            command = _java("kafka.Kafka", self.settings)
            self.process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)

    def send(self, how: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(how)

    def kill(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE)
            self.process = None


class Brokers:
    """A cluster of three."""

    def __init__(self, folder: Path) -> None:
        ports = _free_ports(2 * NODES)
        voters = ",".join(f"{node + 1}@127.0.0.1:{ports[NODES + node]}" for node in range(NODES))
        self.all = [Broker(node + 1, ports[node], folder / f"broker-{node + 1}") for node in range(NODES)]
        self.servers = ",".join(f"127.0.0.1:{broker.port}" for broker in self.all)
        self.address = KafkaCluster(bootstrap_servers=self.servers)
        for broker, controller_port in zip(self.all, ports[NODES:], strict=True):
            broker.folder.mkdir(parents=True)
            broker.settings.write_text(
                _PROPERTIES.format(
                    node=broker.node,
                    voters=voters,
                    port=broker.port,
                    controller_port=controller_port,
                    data=broker.folder / "data",
                )
            )
            broker.format()

    def start(self) -> None:
        """Start the nodes that do not run, and wait until the cluster is whole."""
        for broker in self.all:
            if broker.process is None:
                broker.start()
        self.await_whole()

    def await_whole(self) -> None:
        """Wait until all brokers are there and every partition has all its replicas in sync."""
        wait_for(self._is_whole, patience=3 * PATIENCE)

    def kill(self) -> None:
        """Kill all of them."""
        for broker in self.all:
            broker.kill()

    def _is_whole(self) -> bool:
        assert all(broker.process is None or broker.process.poll() is None for broker in self.all), "a broker ended"
        with suppress(KafkaException):
            found = AdminClient({"bootstrap.servers": self.servers, "log_level": 0}).list_topics(timeout=5)
            partitions = [part for topic in found.topics.values() for part in topic.partitions.values()]
            return len(found.brokers) == NODES and all(len(part.isrs) == len(part.replicas) for part in partitions)
        return False


def _java(main: str, *arguments: object) -> list[str]:
    return ["java", _MEMORY, "-cp", f"{JARS}/*", main, *map(str, arguments)]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports
