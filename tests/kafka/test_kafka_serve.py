"""A real `trackcore serve` whose log is in a cluster, and the commands that read it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from kafka_helpers import configure, lines, run, send, start
from mock_cluster import MockCluster
from patience import wait_for
from served import COMMAND, Served
from trackcore_kafka import KafkaLog, KafkaTopics
from trackcore_server.cli._main import main


def track(message_id: str, user: str = "u1") -> dict[str, Any]:
    return {"type": "track", "userId": user, "event": "E", "messageId": message_id}


def ids(records: list[Any]) -> list[str]:
    return [record["message"]["messageId"] for record in records]


def test_served_and_listed(cluster: MockCluster, tmp_path: Path, servers: list[Served]) -> None:
    topics = cluster.topics(partitions=3)
    config = configure(tmp_path, cluster.servers, prefix=topics.prefix)
    servers.append(start(config))
    assert f"Log: Kafka at {cluster.servers}, topics {topics.prefix}.*" in servers[0].stderr()
    answer = send(servers[0], {"batch": [track("m1"), {"type": "track", "event": "E"}, track("m1"), track("m2")]})
    assert (answer.status, answer.body["accepted"]) == (200, 3)
    assert send(servers[0], {"writeKey": "nobody's", "batch": [track("m3")]}).status == 200  # the header wins
    listed = lines(run("events", "--config", config))
    assert ids(listed) == ["m1", "m2", "m3"]
    assert listed[0]["seq"].partition("-")[2] == "0"
    assert listed[0]["destinations"] == ["Mixpanel"]
    assert ids(lines(run("events", "--limit", "1", "--explain", "--config", config))) == ["m3"]
    (refused,) = lines(run("rejected", "--config", config))
    assert (refused["seq"], refused["code"]) == (1, "no_user_anon_id")
    table = run("events", "--format", "table", "--config", config).stdout.splitlines()
    assert (len(table), table[0].split()[0]) == (4, "seq")
    check_questions(config)
    assert servers[0].terminate() == 0
    assert "Traceback" not in servers[0].stderr()


def check_questions(config: Path) -> None:
    """Counts and exports read any log; the other statistics need one in SQLite, and the error says so."""

    def ask(*arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "--config", str(config)])

    assert ask("events", "--event", "E", "--until", "1h").stdout == ""
    assert len(ask("events", "--event", "E").stdout.splitlines()) == 3
    (count,) = json.loads(ask("stats", "--by", "event").stdout)["counts"]
    assert (count["call"], count["event"], count["messages"]) == ("track", "E", 3)
    assert len(ask("export", "--format", "csv", "--columns", "seq,event").stdout.splitlines()) == 4
    refused = ask("stats")
    assert (refused.exit_code, "--by counts the messages of any log" in refused.stderr) == (2, True)


def test_a_data_folder_with_a_log_in_kafka(cluster: MockCluster, tmp_path: Path, servers: list[Served]) -> None:
    """It has no debugger, so none is offered by a link that opens once."""
    config = configure(tmp_path, cluster.servers, prefix=cluster.topics(partitions=3).prefix)
    config.rename(tmp_path / "trackcore.toml")
    servers.append(Served.start(tmp_path / "stderr", "--data", str(tmp_path)))
    servers[0].wait_until_listening()
    wait_for(servers[0].is_ready)
    assert send(servers[0], {"batch": [track("m1")]}).status == 200
    assert "Debugger" not in servers[0].stderr()


def test_wrong_settings_of_the_client_are_reported_before_anything_else(tmp_path: Path) -> None:
    config = configure(tmp_path, "127.0.0.1:1", prefix="p", more='[log.client]\nacks = "1"')
    done = run("destinations", "--config", config)
    assert (done.returncode, done.stdout) == (2, "")
    assert "log.client.acks: " in done.stderr
    assert not list(tmp_path.glob("*.db"))


def test_any_number_of_servers(cluster: MockCluster, tmp_path: Path, servers: list[Served]) -> None:
    """A message that one server has stored may reach the other again: it is listed once."""
    topics = cluster.topics(partitions=3)
    config = configure(tmp_path, cluster.servers, prefix=topics.prefix)
    servers += [start(config), start(config)]
    for number in range(6):
        assert send(servers[number % 2], {"batch": [track(f"m{number // 2}", f"u{number // 2}")]}).status == 200
    assert KafkaLog(cluster.address, topics).totals().messages == 6
    assert sorted(ids(lines(run("events", "--config", config)))) == ["m0", "m1", "m2"]


def test_an_outage(own_cluster: MockCluster, tmp_path: Path, servers: list[Served]) -> None:
    """503 with Retry-After while no broker answers, 200 again when one does; no acknowledged message is lost."""
    topics = own_cluster.topics(partitions=3)
    config = configure(tmp_path, own_cluster.servers, prefix=topics.prefix, more='timeout = "1s"')
    servers.append(start(config))
    assert send(servers[0], {"batch": [track("before")]}).status == 200
    with own_cluster.down():
        answer = send(servers[0], {"batch": [track("during")]})
        assert (answer.status, answer.body["success"]) == (503, False)
        assert answer.retry_after is not None
        assert 1 <= int(answer.retry_after) <= 300
        assert servers[0].ask("GET", "/ready").status == 503
        assert servers[0].ask("GET", "/health").status == 200
    wait_for(lambda: send(servers[0], {"batch": [track("during")]}).status == 200)
    wait_for(servers[0].is_ready)
    assert ids(lines(run("events", "--config", config))) == ["before", "during"]


def test_killed_after_its_answer(cluster: MockCluster, tmp_path: Path, servers: list[Served]) -> None:
    """200 means acknowledged by the cluster: after kill -9 right after the response, the message is there."""
    topics = cluster.topics(partitions=3)
    config = configure(tmp_path, cluster.servers, prefix=topics.prefix)
    for number in range(3):
        servers.append(start(config, "--workers", "2"))
        answer = send(servers[-1], {"batch": [track(f"{number}-{index}") for index in range(5)]})
        servers[-1].kill()
        assert answer.status == 200
    sent = [f"{number}-{index}" for number in range(3) for index in range(5)]
    assert ids(lines(run("events", "--config", config))) == sent


def test_suppressed_messages_are_a_success_and_in_no_topic(
    cluster: MockCluster, tmp_path: Path, servers: list[Served]
) -> None:
    """Suppressed messages are answered 200 and not kept; what `forget` cannot delete in Kafka, it says."""
    topics = cluster.topics(partitions=3)
    config = configure(tmp_path, cluster.servers, prefix=topics.prefix)
    assert run("suppress", "ann-4d1c8f22", "--config", config).returncode == 0
    servers.append(start(config, "--workers", "2"))
    ann, eve = track("m1", "ann-4d1c8f22"), track("m2", "eve")
    answer = send(servers[0], {"batch": [ann, eve, {**ann, "event": None}, {**eve, "event": None}]})
    assert (answer.status, answer.body["success"]) == (200, True)
    assert servers[0].post("/v1/batch", {"batch": [ann, eve]}, "unknown") == (200, {"success": True})
    counts = []
    for topic, partitions in ((topics.messages, 3), (topics.rejected, 1), (topics.quarantine, 1)):
        values = [record.value() or b"" for record in cluster.records(topic, partitions)]
        keys = [record.key() or b"" for record in cluster.records(topic, partitions)]
        counts.append(sum(b'"eve"' in value for value in values))
        assert b"ann-4d1c8f22" not in b"".join([*values, *keys])
    assert counts == [1, 1, 1]
    done = run("forget", "ann-4d1c8f22", "--config", config)
    assert "messages: NOT_SUPPORTED, the messages in Kafka end with the retention of their topic" in done.stderr
    assert run("unsuppress", "ann-4d1c8f22", "--config", config).returncode == 0
    wait_for(lambda: send(servers[0], {"batch": [ann]}).status == 200 and len(cluster.records(topics.messages, 3)) == 2)


def test_followed(cluster: MockCluster, tmp_path: Path, servers: list[Served]) -> None:
    topics = cluster.topics(partitions=3)
    config = configure(tmp_path, cluster.servers, prefix=topics.prefix)
    servers.append(start(config))
    assert send(servers[0], {"batch": [track("m1")]}).status == 200
    command = [*COMMAND, "events", "--follow", "--config", str(config)]
    follower = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert follower.stdout is not None
    assert b'"m1"' in follower.stdout.readline()
    assert send(servers[0], {"batch": [track("m2", "u2")]}).status == 200
    assert b'"m2"' in follower.stdout.readline()
    follower.kill()
    follower.wait()
    follower.stdout.close()


class TestRefusedStarts:
    def test_no_broker_answers(self, tmp_path: Path) -> None:
        done = run("serve", "--bind", "127.0.0.1:0", "--config", configure(tmp_path, "127.0.0.1:9", prefix="p"))
        assert done.returncode == 2
        assert "Kafka at 127.0.0.1:9, topics p.*: no broker answers" in done.stderr

    def test_topics_are_otherwise(self, cluster: MockCluster, tmp_path: Path) -> None:
        topics: KafkaTopics = cluster.topics(partitions=3)
        config = configure(tmp_path, cluster.servers, prefix=topics.prefix, partitions=4)
        done = run("serve", "--bind", "127.0.0.1:0", "--config", config)
        assert done.returncode == 2
        assert f"topic {topics.messages} has 3 partitions where 4 are configured" in done.stderr

    def test_the_client_is_not_installed(self, tmp_path: Path) -> None:
        """Only a log in Kafka needs its client, and the error names it."""
        config = configure(tmp_path, "127.0.0.1:9", prefix="p")
        code = (
            "import sys; sys.modules['confluent_kafka'] = None\n"
            "from trackcore_server.cli._main import main\n"
            f"main(['events', '--config', {str(config)!r}])\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "log.kind: a log in Kafka needs confluent_kafka: pip install 'trackcore[kafka]'" in done.stderr
