"""The contract of every kind of destination."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import pytest
from delivery_helpers import EndpointServer, Reply, fed, sender_context
from mock_cluster import MockCluster
from trackcore_delivery import (
    CallableDestination,
    DeliveredDestination,
    DeliveryBatch,
    FedMessage,
    FileDestination,
    PermanentError,
    RetryLater,
    Secret,
    SegmentDestination,
    Sender,
    WebhookDestination,
)
from trackcore_server.config.file_destinations import ArchiveDestination
from trackcore_server.config.kafka_destination import KafkaTopicDestination
from trackcore_server.config.kafka_log import ClientSettings
from trackcore_server.config.kinds import KINDS

from trackcore import JSONObject

_numbers = count(1)
SECRET = "s3cr3t-of-the-test"  # noqa: S105 - that is what it is
ENVIRON = {"SECRET": SECRET}


@attrs.frozen(kw_only=True)
class Case:
    """A kind of destination to test: how to read the messages that arrived, how to break it and how to repair it."""

    destination: DeliveredDestination
    folder: Path
    arrived: Callable[[], list[JSONObject]]
    break_down: Callable[[], object]
    repair: Callable[[], object]

    def sender(self) -> Sender:
        return self.destination.make_sender(sender_context(self.folder, ENVIRON))


def http_case(endpoint: EndpointServer, destination: DeliveredDestination, folder: Path) -> Case:
    def answer(reply: Reply) -> None:
        endpoint.behaviour = lambda _: reply

    return Case(
        destination=destination,
        folder=folder,
        arrived=lambda: endpoint.taken,
        break_down=lambda: answer(Reply(status=503, body=f"no {SECRET}".encode())),
        repair=lambda: answer(Reply()),
    )


def webhook_case(endpoint: EndpointServer, folder: Path) -> Case:
    destination = WebhookDestination(
        name="There", url=f"{endpoint.url}/hook", secret=Secret("env:SECRET"), headers={"X-Key": Secret("env:SECRET")}
    )
    return http_case(endpoint, destination, folder)


def zipping_webhook_case(endpoint: EndpointServer, folder: Path) -> Case:
    destination = WebhookDestination(name="There", url=endpoint.url, secret=Secret("env:SECRET"), gzip=True)
    return http_case(endpoint, destination, folder)


def segment_case(endpoint: EndpointServer, folder: Path) -> Case:
    destination = SegmentDestination(name="There", url=endpoint.url, write_key=Secret("env:SECRET"))
    return http_case(endpoint, destination, folder)


def file_case(_: EndpointServer, folder: Path) -> Case:
    there = folder / "there"

    def arrived() -> list[JSONObject]:
        text = b""
        for path in sorted(there.glob("*")):
            text += gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return [json.loads(line) for line in text.splitlines()]

    return Case(
        destination=FileDestination(name="There", folder=there),
        folder=folder,
        arrived=arrived,
        break_down=lambda: there.write_text("a file where the folder should be"),
        repair=there.unlink,
    )


def callable_case(_: EndpointServer, folder: Path) -> Case:
    got: list[JSONObject] = []
    broken: list[bool] = []

    def take(messages: Sequence[JSONObject]) -> None:
        if broken:
            raise RetryLater(detail="not now")
        got.extend(messages)

    return Case(
        destination=CallableDestination(name="There", call=take),
        folder=folder,
        arrived=lambda: got,
        break_down=lambda: broken.append(True),
        repair=broken.clear,
    )


@cache
def cluster() -> MockCluster:
    """Return the one cluster of this module; its topics are made by tests."""
    return MockCluster()


@pytest.fixture(name="_cluster_ended", scope="module", autouse=True)
def _end_cluster() -> Iterator[None]:
    yield
    if cluster.cache_info().currsize:
        cluster().close()


def kafka_case(_: EndpointServer, folder: Path) -> Case:
    topic = f"there-{next(_numbers)}"
    cluster().create(topic, 1)
    destination = KafkaTopicDestination(
        name="There",
        bootstrap_servers=cluster().servers,
        topic=topic,
        timeout=timedelta(seconds=5),
        client=ClientSettings({"client.id": "env:SECRET"}),
    )
    return Case(
        destination=destination,
        folder=folder,
        arrived=lambda: [json.loads(record.value() or b"") for record in cluster().records(topic, 1)],
        break_down=lambda: cluster().set_up(up=False),
        repair=lambda: cluster().set_up(up=True),
    )


def s3_archive_case(_: EndpointServer, folder: Path) -> Case:
    there = folder / "there"
    return Case(
        destination=ArchiveDestination(name="There", location="there", secret_access_key=Secret("env:SECRET")),
        folder=folder,
        arrived=lambda: [
            json.loads(line)
            for path in sorted(there.rglob("*.gz"))
            for line in gzip.decompress(path.read_bytes()).splitlines()
        ],
        break_down=lambda: there.write_text("a file where the folder should be"),
        repair=there.unlink,
    )


CASES = [webhook_case, zipping_webhook_case, segment_case, file_case, callable_case, kafka_case, s3_archive_case]


@pytest.fixture(name="case", params=CASES, ids=lambda case: case.__name__.removesuffix("_case"))
def _case(request: pytest.FixtureRequest, endpoint: Callable[..., EndpointServer], tmp_path: Path) -> Case:
    case: Case = request.param(endpoint(), tmp_path)
    return case


def batch(messages: Sequence[FedMessage]) -> DeliveryBatch:
    return DeliveryBatch(destination="There", messages=messages)


def essence(message: JSONObject) -> JSONObject:
    """Return a message without the times that the receiver sets."""
    return {name: value for name, value in message.items() if name not in {"receivedAt", "originalTimestamp", "sentAt"}}


def expected(messages: Sequence[FedMessage]) -> list[JSONObject]:
    return [essence(json.loads(message.payload)) for message in messages]


class TestContract:
    def test_a_batch_arrives_whole_and_in_order(self, case: Case) -> None:
        sender = case.sender()
        messages = fed(50)
        assert list(sender.send(batch(messages[:20]))) == []
        assert list(sender.send(batch(messages[20:]))) == []
        assert list(map(essence, case.arrived())) == expected(messages)
        sender.close()

    def test_text_of_any_script_and_numbers_of_any_size_arrive_as_they_are(self, case: Case) -> None:
        (message,) = fed(1)
        payload = message.payload[:-1] + ',"x":["\\u2028\\n\\"é💥",1e-7,12345678901234567890123]}'.encode()
        sender = case.sender()
        sender.send(batch([message._replace(payload=payload)]))
        assert case.arrived()[0]["x"] == ['\u2028\n"é💥', 1e-7, 12345678901234567890123]
        sender.close()

    def test_a_destination_that_is_down_is_reported_and_the_same_batch_arrives_later(self, case: Case) -> None:
        sender = case.sender()
        case.break_down()
        with pytest.raises(RetryLater) as raised:
            sender.send(batch(fed(3)))
        assert SECRET not in str(raised.value)
        case.repair()
        sender.send(batch(fed(3)))
        assert list(map(essence, case.arrived())) == expected(fed(3))
        sender.close()

    def test_it_can_be_opened_again_and_what_had_arrived_stays(self, case: Case) -> None:
        for first in (0, 3):
            sender = case.sender()
            sender.send(batch(fed(3, first=first)))
            sender.close()
        assert list(map(essence, case.arrived())) == expected([*fed(3), *fed(3, first=3)])

    def test_its_settings_do_not_show_secrets(self, case: Case) -> None:
        assert "env:SECRET" not in repr(case.destination)
        assert SECRET not in repr(case.sender())

    def test_opening_it_does_nothing_yet(self, case: Case) -> None:
        """So that a start can check the settings, and a second server can wait for its turn."""
        before = sorted(case.folder.rglob("*"))
        case.sender().close()
        assert sorted(case.folder.rglob("*")) == before


def test_every_kind_that_can_be_configured_is_tested() -> None:
    """Those that keep tables are tested against an oracle of their rows: tests/lake, tests/warehouse."""
    tested = {kind.__name__.removesuffix("_case").removeprefix("zipping_").replace("_", "-") for kind in CASES}
    assert {name for name, kind in KINDS.items() if not kind.is_warehouse} <= tested
    assert [kind.kind for kind in KINDS.values()] == list(KINDS), "the table of classes has their own names"


def test_a_callable_that_refuses_is_believed(tmp_path: Path) -> None:
    def take(_: Any) -> None:
        raise PermanentError(detail="not wanted")

    sender = CallableDestination(name="There", call=take).make_sender(sender_context(tmp_path))
    with pytest.raises(PermanentError, match="not wanted"):
        sender.send(batch(fed(1)))
