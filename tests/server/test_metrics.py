"""The metrics of a server: `[metrics] bind`, and the apps for those who embed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import pytest
import trackcore_metrics
from adapter_helpers import basic
from patience import wait_for
from prometheus_client.parser import text_string_to_metric_families
from segment.analytics.client import Client as SegmentClient
from served import Served
from trackcore_server.process import shared_cells
from trackcore_server.process.shared_cells import SharedMemory
from trackcore_sqlite import SqliteBrowser, SqliteLog, open_collector

from trackcore import EVERYTHING, METRICS, Metrics, Source
from trackcore.support import read_values

Serve = Callable[..., Served]
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

CONFIGURATION = """
[[sources]]
name = "site"
write_keys = ["site-key"]
destinations = []
[[sources]]
name = "app"
write_keys = ["app-key"]
[[destinations]]
name = "Archive"
kind = "file"
folder = "archive"
batch_wait = "1s"
[server]
workers = 2
[metrics]
bind = "127.0.0.1:0"
"""


def samples_of(text: str) -> Samples:
    families = list(text_string_to_metric_families(text))
    assert {family.type for family in families} <= {"counter", "gauge", "histogram"}
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def total(samples: Samples, name: str, **labels: str) -> float:
    return sum(
        value for (found, pairs), value in samples.items() if found == name and labels.items() <= dict(pairs).items()
    )


@attrs.define
class Monitored:
    """A server with metrics."""

    served: Served

    def scrape(self) -> Samples:
        """Return the metrics; a reload may just replace the process that serves them."""
        return wait_for(self._scrape)  # type: ignore[no-any-return]

    def _scrape(self) -> Samples | None:
        ports = re.findall(r" Metrics: http://127\.0\.0\.1:(\d+)/metrics\n", self.served.stderr())
        if not ports:
            return None
        connection = HTTPConnection("127.0.0.1", int(ports[-1]), timeout=30)
        try:
            connection.request("GET", "/metrics")
            return samples_of(connection.getresponse().read().decode())
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()


class Load:
    """Clients that send until they are stopped.  One of three requests has a wrong key, and most repeat a message."""

    def __init__(self, port: int, clients: int) -> None:
        self.port = port
        self.answered = [0] * clients
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(client,)) for client in range(clients)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, meanwhile: Callable[[], object]) -> None:
        """Wait until each client has had some more answers."""
        goals = [number + 5 for number in self.answered]
        wait_for(lambda: meanwhile() and all(now >= goal for now, goal in zip(self.answered, goals, strict=True)))

    def _send(self, client: int) -> None:
        for number in count():
            if self._stopping.is_set():
                return
            page = {"type": "page", "userId": "u", "messageId": f"{client}-{number // 6}"}
            body = json.dumps({"batch": [page, {"type": "x"}]})
            key = ("site-key", "app-key", "wrong-key")[number % 3]
            connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                connection.request("POST", "/v1/batch", body, {"Authorization": basic(key)})
                self.answered[client] += connection.getresponse().status == 200
            except (OSError, HTTPException):
                pass  # its worker was killed
            finally:
                connection.close()


@pytest.fixture
def monitored(serve: Serve, tmp_path: Path) -> Monitored:
    (tmp_path / "trackcore.toml").write_text(CONFIGURATION)
    return Monitored(serve())


class TestServer:
    def test_totals_equal_the_log_at_rest(self, monitored: Monitored, tmp_path: Path) -> None:
        """Right under several workers, reloads, a killed worker and a delivery process, while five SDKs send."""
        served = monitored.served
        errors: list[object] = []
        sdks = [
            SegmentClient(
                key,
                host=f"http://127.0.0.1:{served.port}",
                on_error=lambda error, _: errors.append(error),
                max_retries=50,
                upload_interval=0.05,
            )
            for key in ("site-key", "site-key", "site-key", "app-key", "app-key")
        ]
        load = Load(served.port, 4)
        self.send(sdks)
        load.wait_for_more(monitored.scrape)
        os.kill(served.workers()[0], signal.SIGKILL)
        self.send(sdks)
        load.wait_for_more(monitored.scrape)
        served.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "read again" in served.stderr())
        self.send(sdks)
        load.wait_for_more(monitored.scrape)
        load.stop()
        for sdk in sdks:
            sdk.flush()
            sdk.join()
        assert errors == []

        wait_for(lambda: total(monitored.scrape(), "trackcore_delivery_lag_messages") == 0)
        found = monitored.scrape()
        self.check_messages(found, SqliteLog(tmp_path / "trackcore.db"))
        assert total(found, "trackcore_requests_in_progress") == 0
        answers = total(found, "trackcore_requests_total", route="/v1/batch", status="200")
        assert answers >= sum(load.answered), "a worker that was killed or replaced loses none that it has counted"
        assert answers == total(found, "trackcore_request_duration_seconds_count", route="/v1/batch")
        assert total(found, "trackcore_delivery_attempts_total", destination="Archive", result="delivered") > 0
        assert total(found, "trackcore_dead_letters") == 0
        assert {name for name, _ in found} >= {"trackcore_build_info", "trackcore_disk_free_bytes"}

    def send(self, sdks: Sequence[SegmentClient]) -> None:
        for sdk in sdks:
            sdk.track("u", "Bought")

    def check_messages(self, found: Samples, log: SqliteLog) -> None:
        totals = log.totals()
        stored = Counter((message.source, message.call) for message in log.messages())
        assert stored.keys() == {("site", "page"), ("site", "track"), ("app", "page"), ("app", "track")}
        assert stored["site", "track"] == 3 * 3
        assert stored["app", "track"] == 2 * 3
        for (source, call), number in stored.items():
            assert total(found, "trackcore_messages_total", source=source, call=call, outcome="stored") == number
        assert total(found, "trackcore_messages_total", outcome="stored") == totals.messages
        assert total(found, "trackcore_messages_total", outcome="rejected") == totals.rejected
        duplicates = SqliteBrowser(log.path).listed("duplicates", EVERYTHING, after=0, to=1 << 40).rows
        assert total(found, "trackcore_messages_total", outcome="duplicate") == len(duplicates) > 0
        assert total(found, "trackcore_rejected_total", reason="unknown_source") == totals.quarantined
        assert total(found, "trackcore_rejected_total") == totals.rejected + totals.quarantined
        assert total(found, "trackcore_log_messages") == totals.messages

    def test_the_public_port_has_no_metrics(self, monitored: Monitored) -> None:
        served = monitored.served
        for path in ("/metrics", "/metrics/", "/prometheus", "/debugger/metrics"):
            assert served.ask("GET", path).status == 404
        assert served.post("/v1/track", {"userId": "secret-user", "event": "Secret Event"}, "site-key")[0] == 200
        served.get("/v1/projects/site-key/settings")
        for number in range(20):
            served.get(f"/secret-path/{number}")
            served.post(
                "/v1/track", {"userId": f"secret-{number}", "event": f"Secret {number}"}, f"secret-key-{number}"
            )
            served.post("/v1/track", {"userId": "u", f"secret-{number}": 1}, "app-key")
        first = monitored.scrape()
        shown = json.dumps(list(first))
        assert not re.search(r"secret|-key", shown, re.IGNORECASE)
        assert {dict(pairs).get("route") for _, pairs in first} - {None} == {
            "?", "/v1/track", "/v1/projects/{writeKey}/settings", "/ready"
        }  # fmt: skip
        for number in range(100, 150):
            served.get(f"/other/{number}")
            other = {"userId": f"other-{number}", "event": f"Other {number}"}
            served.post("/v1/track", other, f"other-{number}")
            served.post("/v1/track", other, "site-key")
        assert monitored.scrape().keys() == first.keys(), "clients cannot add a series"

    def test_an_address_in_use_is_reported_at_the_start(self, serve: Serve, tmp_path: Path, run: Any) -> None:
        (tmp_path / "trackcore.toml").write_text(CONFIGURATION)
        served = serve()
        bind = f"127.0.0.1:{served.port}"
        (tmp_path / "trackcore.toml").write_text(CONFIGURATION.replace("127.0.0.1:0", bind))
        assert f"cannot listen on {bind}" in run("serve", "--data", "other", "--config", "trackcore.toml").stderr

    @pytest.mark.parametrize("server", ["127.0.0.1:9100", "0.0.0.0:9100"])
    def test_it_is_never_the_public_address(self, run: Any, tmp_path: Path, server: str) -> None:
        text = CONFIGURATION.replace("127.0.0.1:0", "127.0.0.1:9100")
        (tmp_path / "trackcore.toml").write_text(text.replace("workers = 2", f'bind = "{server}"'))
        result = run("config", "check")
        assert result.exit_code == 1
        assert "metrics.bind: the metrics need an address of their own, which clients cannot reach" in result.stderr


class TestSharedMemory:
    """Each process counts in a segment; the numbers of one that has ended stay."""

    @pytest.fixture
    def memory(self) -> Iterator[SharedMemory]:
        memory = SharedMemory.create()
        for number in range(3):
            memory.reserve(number)
        yield memory
        os.close(memory.descriptor)

    def total(self, memory: SharedMemory, name: str) -> float:
        return sum(value.value for value in read_values(memory.segments()) if value.metric.name == name)

    def test_the_next_one_goes_on(self, memory: SharedMemory) -> None:
        for _ in range(3):
            metrics = Metrics(memory.segment(1))
            metrics.begin_request()
            metrics.count_request(route="/v1/batch", status=200, seconds=0.1)
        other = Metrics(memory.segment(2))
        other.begin_request()
        other.count_request(route="/v1/batch", status=200, seconds=0.1)
        other.count_request(route="/v1/batch", status=400, seconds=0.1)
        assert self.total(memory, "trackcore_requests_total") == 5
        assert self.total(memory, "trackcore_request_duration_seconds") == 5
        assert self.total(memory, "trackcore_requests_in_progress") == 2, "nothing of ended processes is in progress"

    def test_a_line_that_is_being_written_is_not_read(self, memory: SharedMemory) -> None:
        Metrics(memory.segment(0)).begin_request()
        with os.fdopen(os.dup(memory.descriptor), "r+b") as file:
            file.seek(8 * shared_cells.CELLS + 100)
            file.write(b'["trackcore')
        assert self.total(memory, "trackcore_requests_in_progress") == 1

    def test_series_beyond_the_room_are_not_counted(
        self, memory: SharedMemory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(shared_cells, "CELLS", 20)
        metrics = Metrics(memory.segment(0))
        for number in range(10):
            metrics.count_rejected(f"source {number}", "invalid_json")
            metrics.count_rejected(f"source {number}", "invalid_json")
        assert 0 < self.total(memory, "trackcore_rejected_total") < 20
        assert "there is no room for more series" in caplog.text


class TestEmbedding:
    """`collector.metrics` as plain values, and a WSGI and an ASGI app to mount."""

    def test_the_apps_show_the_values(self, tmp_path: Path) -> None:
        with open_collector(tmp_path / "log.db", sources=[Source(name="a", write_keys=("key",))]) as collector:
            collector.receive(b'{"userId": "u", "event": "E", "writeKey": "key"}', endpoint="track")
            bodies = [self.of_wsgi(collector), asyncio.run(self.of_asgi(collector))]
            values = {(value.metric.name, value.labels): value.value for value in collector.metrics.values()}
        assert values["trackcore_commit_messages", ()] == 1
        for body in bodies:
            found = samples_of(body)
            assert total(found, "trackcore_messages_total", source="a", call="track", outcome="stored") == 1
            assert total(found, "trackcore_commit_messages_bucket", le="+Inf") == 1
            assert total(found, "trackcore_commit_messages_bucket", le="1.0") == 1

    def of_wsgi(self, collector: Any) -> str:
        environ: Any = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "QUERY_STRING": ""}
        return b"".join(trackcore_metrics.wsgi_app(collector)(environ, lambda *_: print)).decode()

    async def of_asgi(self, collector: Any) -> str:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        async def send(event: Any) -> None:
            sent.append(event)

        scope = {"type": "http", "method": "GET", "path": "/metrics", "query_string": b"", "headers": []}
        await trackcore_metrics.asgi_app(collector)(scope, receive, send)  # type: ignore[misc]
        return b"".join(event.get("body", b"") for event in sent).decode()

    def test_every_metric_of_a_process_can_be_exposed(self) -> None:
        """Also a histogram with buckets below zero, which has no sum then."""
        metrics = Metrics()
        for metric in METRICS:
            place = metrics.cells.allocate(metric, tuple("x" for _ in metric.labels))
            metrics.cells.values[place] = 1.0
        registry = trackcore_metrics.make_registry(metrics.values)
        assert {family.name for family in registry.collect()} == {
            metric.name.removesuffix("_total") for metric in METRICS
        }
