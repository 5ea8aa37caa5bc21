"""One person's rights: commands, every store, destinations, the HTTP shapes, and what is left after `forget`."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest
from click.testing import Result
from delivery_helpers import OK, EndpointServer, Reply
from patience import PATIENCE, wait_for
from served import Served
from trackcore_delivery import State
from trackcore_privacy import PrivacyFile, SuppressionReader
from trackcore_server import create_app, create_collector, load_configuration
from trackcore_sqlite import CONSISTENT, SqliteLog, check_log
from werkzeug.test import Client

from trackcore import Outcome
from trackcore.privacy import Subject, Suppressions

ANN = "ann-4d1c8f22"
EVE = "eve-99"
DEVICE = "device-5511aa"
SUBJECT = Subject("user", ANN)
TOKEN = "a-long-admin-token"  # noqa: S105 - of the tests
SOURCES = '[[sources]]\nname = "website"\nwrite_keys = ["key"]\n[[sources]]\nname = "app"\nwrite_keys = ["app-key"]\n'
KILLS = int(os.environ.get("TRACKCORE_KILLS", "2"))
ADMIN = f'[admin]\ntoken = "{TOKEN}"\n'
LAKES = "".join(
    f'[[destinations]]\nname = "{kind}"\nkind = "{kind}"\n{setting}\nbatch_wait = "0s"\n'
    for kind, setting in (
        ("s3-archive", 'location = "s3"'),
        ("parquet", 'location = "parquet"\ndeclare = []'),
        ("duckdb", 'path = "lake.duckdb"\ndeclare = []'),
    )
)
FILES = '[[destinations]]\nname = "Files"\nkind = "file"\nfolder = "files"\n'

Run = Callable[..., Result]
Serve = Callable[..., Served]


def track(person: str, number: int, **fields: Any) -> dict[str, Any]:
    return {"type": "track", "userId": person, "event": "E", "messageId": f"{person[:3]}-{number}", **fields}


def configure(folder: Path, text: str = "") -> None:
    (folder / "trackcore.toml").write_text(SOURCES + text)


def store(*messages: Any, key: str = "key") -> list[Outcome]:
    """Receive a batch by the configuration of the folder."""
    return store_all((key, messages))


def store_all(*batches: tuple[str, Sequence[Any]]) -> list[Outcome]:
    """Receive batches, each with its write key."""
    collector = create_collector(load_configuration(Path("trackcore.toml")))
    try:
        bodies = [json.dumps({"batch": messages, "writeKey": key}).encode() for key, messages in batches]
        return [outcome for body in bodies for outcome in collector.receive(body).outcomes]
    finally:
        collector.sink.close()  # type: ignore[attr-defined]


def raw_bytes(folder: Path) -> bytes:
    """Return the bytes of all files, archives also unpacked."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.startswith("stderr")]
    texts = [file.read_bytes() for file in files]
    return b"".join([*texts, *(gzip.decompress(text) for text in texts if text[:2] == b"\x1f\x8b")])


class TestSuppressions:
    """Suppressed messages are answered 200 and not kept."""

    def test_they_are_a_success_and_not_kept(self, run: Run, tmp_path: Path) -> None:
        configure(tmp_path)
        store(track(EVE, 0))
        assert run("suppress", ANN).exit_code == 0
        bad = {"type": "track", "userId": ANN}
        alias = {"type": "alias", "userId": "new", "previousId": ANN, "messageId": "a"}
        outcomes = store(track(ANN, 1), track(EVE, 1), bad, alias, track("x", 1, anonymousId=ANN))
        assert outcomes == [Outcome.SUPPRESSED, Outcome.STORED, Outcome.SUPPRESSED, Outcome.STORED]
        store(track(ANN, 2), {"type": "page"}, key="unknown")
        log = SqliteLog(tmp_path / "trackcore.db")
        assert list(log.rejected()) == []
        (request,) = log.quarantined()
        assert json.loads(request.payload)["batch"] == [{"type": "page"}]
        assert run("unsuppress", ANN).exit_code == 0
        assert store(track(ANN, 3)) == [Outcome.STORED]

    def test_one_source(self, run: Run, tmp_path: Path) -> None:
        configure(tmp_path)
        assert run("suppress", ANN, "--source", "app").exit_code == 0
        assert store(track(ANN, 1)) == [Outcome.STORED]
        assert store(track(ANN, 2), key="app-key") == [Outcome.SUPPRESSED]

    def test_a_running_server_obeys(self, serve: Serve, run: Run, tmp_path: Path) -> None:
        configure(tmp_path, "[server]\nworkers = 2\n")
        served = serve("--config", "trackcore.toml", "--workers", "2")
        assert served.post("/v1/track", track(ANN, 0), "key") == (200, {"success": True})
        assert run("suppress", ANN).exit_code == 0
        numbers = iter(range(1, 1_000_000))

        def is_obeyed() -> bool:
            number = next(numbers)
            assert served.post("/v1/track", track(ANN, number), "key") == (200, {"success": True})
            ids = {stored.message["messageId"] for stored in SqliteLog(tmp_path / "trackcore.db").messages()}
            return f"ann-{number}" not in ids

        for _ in range(5):  # by every worker
            wait_for(is_obeyed)

    def test_a_reader_looks_again_after_a_while(self, tmp_path: Path) -> None:
        file = PrivacyFile(tmp_path / "privacy.db")
        ticks = [0.0]
        reader = SuppressionReader(file, lambda: ticks[0])
        assert not reader()
        file.suppress([SUBJECT], scope="", now=datetime(2026, 1, 31, tzinfo=UTC), keep_ids=True)
        assert not reader()
        ticks[0] = 1.0
        assert reader().covers("website", [SUBJECT])
        assert not reader().covers("website", [Subject("anonymous", ANN)])
        assert [entry.subject for entry in file.listed()] == [SUBJECT]

    def test_nobody_is_covered_by_an_empty_list(self) -> None:
        assert not Suppressions().covers("website", [SUBJECT])


def fill() -> None:
    """Fill every part of the log with two persons, eight messages of each."""
    batches: list[tuple[str, Sequence[Any]]] = []
    for number in range(8):
        for person in (ANN, EVE):
            message = track(person, number, properties={"who": person})
            batches += [("key", [message, message, {"userId": person}]), ("unknown", [message])]
    store_all(*batches)


class TestForget:
    def test_every_store(self, run: Run, tmp_path: Path, serve: Serve) -> None:
        """Messages, rejected, quarantine, duplicates, dead letters, archives; a webhook gets a delete message."""
        with running_endpoint() as endpoint, running_endpoint(Reply(status=400)) as refusing:
            configure(
                tmp_path,
                f'{FILES}rotate_bytes = 600\nbatch_wait = "0s"\n'
                f'[[destinations]]\nname = "Hook"\nkind = "webhook"\nurl = "{endpoint.url}"\nbatch_wait = "0s"\n'
                f'[[destinations]]\nname = "Dead"\nkind = "webhook"\nurl = "{refusing.url}"\nbatch_wait = "0s"\n',
            )
            fill()
            served = serve("--config", "trackcore.toml")
            with closing(State(tmp_path / "trackcore-delivery.db")) as state:
                wait_for(lambda: len(state.dead_letters()) == 16 and len(endpoint.ids) == 16)
            wait_for(lambda: raw_bytes(tmp_path / "files").count(b'"event"') == 16)
            result = run("forget", ANN)
            assert result.exit_code == 1  # a destination that refuses everything has not forgotten
            assert "destination: Dead: FAILED" in result.stderr
            refusing.behaviour = endpoint.behaviour
            assert run("forget", "--resume").exit_code == 0
            (deleted,) = [message for message in endpoint.taken if message["type"] == "delete"]
            assert deleted["userId"] == ANN
            assert served.post("/v1/track", track(ANN, 100), "key") == (200, {"success": True})
            assert served.post("/v1/track", track(EVE, 100), "key")[0] in (200, 503)
            served.terminate()
        assert ANN.encode() not in raw_bytes(tmp_path)
        log = SqliteLog(tmp_path / "trackcore.db")
        assert {stored.message["userId"] for stored in log.messages()} == {EVE}
        lines = raw_archive(tmp_path / "files")
        assert [line["messageId"] for line in lines][:8] == [f"eve-{number}" for number in range(8)]
        condition = check_log(tmp_path / "trackcore.db")
        assert (condition.inconsistency, condition.faults) == (CONSISTENT, ())
        audit = [json.loads(line) for line in (tmp_path / "trackcore-privacy-audit.jsonl").read_text().splitlines()]
        assert [line["action"] for line in audit] == ["SUPPRESS_WITH_DELETE", "SUPPRESS_WITH_DELETE FINISHED"]

    def test_dry_run_and_events_kept(self, run: Run, tmp_path: Path) -> None:
        configure(tmp_path, '[privacy]\nkey = "a key of the tests"\n')
        fill()
        counted = run("forget", ANN, "--dry-run").stdout.splitlines()
        assert "messages: 8" in counted
        assert run("forget", ANN, "--keep-events", "--no-suppress").exit_code == 0
        users = {stored.message["userId"] for stored in SqliteLog(tmp_path / "trackcore.db").messages()}
        assert users == {EVE, SUBJECT.pseudonym(b"a key of the tests")}
        assert ANN.encode() not in raw_bytes(tmp_path)
        assert store(track(ANN, 100)) == [Outcome.STORED]

    def test_events_cannot_be_kept_without_a_key(self, run: Run, tmp_path: Path) -> None:
        configure(tmp_path)
        result = run("forget", ANN, "--keep-events")
        assert (result.exit_code, "privacy.key" in result.stderr) == (2, True)

    def test_delivery_and_replay_go_on(self, run: Run, serve: Serve, tmp_path: Path) -> None:
        """Sequence numbers stay, so cursors and marks hold."""
        configure(tmp_path, f'{FILES}gzip = false\nbatch_wait = "0s"\n')
        fill()
        served = serve("--config", "trackcore.toml")
        wait_for(lambda: len(raw_archive(tmp_path / "files")) == 16)
        assert run("forget", ANN).exit_code == 0
        wait_for(lambda: served.post("/v1/track", track(EVE, 100), "key")[0] == 200)
        wait_for(lambda: [line["messageId"] for line in raw_archive(tmp_path / "files")][-1:] == ["eve-100"])
        assert len(raw_archive(tmp_path / "files")) == 9
        assert run("replay", "--destination", "Files", "--since", "1d").exit_code == 0
        wait_for(lambda: len(raw_archive(tmp_path / "files")) == 18)
        assert "replaced" not in served.stderr()
        assert "rewound" not in served.stderr()
        assert run("check").exit_code == 0

    def test_killed_and_resumed(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """At random points of its work; `TRACKCORE_KILLS=50` is the long form."""
        temporary = tmp_path / "tmp"  # it is searched too: a killed process leaves its temporary files
        temporary.mkdir()
        monkeypatch.setenv("TMPDIR", str(temporary))
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        killed_and_resumed(run, tmp_path, Random(1), kills=KILLS)


def killed_and_resumed(run: Run, folder: Path, random: Random, *, kills: int) -> None:
    """Forget persons one after the other, each time killed at a random point, and twice; then resumed.

    Nothing is left of each, and of the others everything.
    """
    configure(folder, f'{FILES}rotate_bytes = 1500\nbatch_wait = "0s"\n{LAKES}')
    persons = [f"p{number:03}-ann-4d1c8f22" for number in range(kills)]
    messages = [track(person, number, messageId=f"{person[:4]}{number}") for number in range(3) for person in persons]
    bad = [{"userId": person} for person in persons]
    store_all(("key", messages), ("key", messages), ("key", bad), *(("unknown", [message]) for message in messages))
    deliver_all(folder, len(messages), lambda: all(len(ids) == len(messages) for ids in ids_in_lakes(folder)))
    total = run_killed(folder, 10**9, "nobody-at-all")
    for place, person in enumerate(persons, 1):
        run_killed(folder, random.randrange(total), person)
        run_killed(folder, random.randrange(total), "--resume")
        if person.encode() in raw_bytes(folder):  # it was killed before it had begun, or after
            arguments = ["--resume"] if PrivacyFile(folder / "trackcore-privacy.db").jobs(unfinished=True) else [person]
            assert run("forget", *arguments).exit_code == 0
        assert person.encode() not in raw_bytes(folder)
        left = [message for message in messages if message["userId"] in persons[place:]]
        stored = [one.message for one in SqliteLog(folder / "trackcore.db").messages()]
        assert [(one["userId"], one["messageId"]) for one in stored] == [(m["userId"], m["messageId"]) for m in left]
        ids = [message["messageId"] for message in left]
        assert [line["messageId"] for line in raw_archive(folder / "files")] == ids
        assert ids_in_lakes(folder) == [sorted(ids)] * 3
        assert person not in repr(rows_in_lakes(folder))
        assert check_log(folder / "trackcore.db").inconsistency == CONSISTENT


_KILLED = """
import os, sys
count, most = 0, int(sys.argv[1])
def profile(frame, event, argument):
    global count
    count += 1
    if count == most:
        os._exit(137)
from trackcore_server.cli._main import main
sys.setprofile(profile)
try:
    main(sys.argv[2:], standalone_mode=False)
except SystemExit:
    pass
finally:
    sys.setprofile(None)
    print(count)
"""


def run_killed(folder: Path, most: int, *arguments: str) -> int:
    """Run `forget`, killed after so many events of its interpreter, and return how many there were at most."""
    command = [sys.executable, "-c", _KILLED, str(most), "forget", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=PATIENCE)
    return int(done.stdout.split()[-1]) if done.returncode == 0 else most


def rows_in_lakes(folder: Path) -> list[list[tuple[Any, ...]]]:
    """Return the rows of the table of tracks in each lake; in the archive lines are rows."""
    lines = [
        json.loads(line)
        for path in folder.glob("s3/**/*.gz")
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    found: list[list[tuple[Any, ...]]] = [[(line["messageId"], line) for line in lines]]
    for database, table in (
        (":memory:", f"read_parquet('{folder}/parquet/*/trackcore_table=tracks/**/*.parquet')"),
        (str(folder / "lake.duckdb"), "website.tracks"),
    ):
        try:
            with duckdb.connect(database, read_only=database != ":memory:") as connection:
                found.append(connection.execute(f"SELECT id, t::VARCHAR FROM {table} t").fetchall())  # noqa: S608 - names of this test
        except (duckdb.IOException, duckdb.CatalogException):  # it is written just now, or there is none yet
            found.append([])
    return found


def ids_in_lakes(folder: Path) -> list[list[str]]:
    """Return the ids of the messages in each lake."""
    return [sorted(one for one, *_ in rows) for rows in rows_in_lakes(folder)]


def deliver_all(folder: Path, count: int = 16, is_done: Callable[[], bool] = lambda: True) -> None:
    """Deliver everything to the archives."""
    command = [sys.executable, "-m", "trackcore_server.cli", "deliver", "--config", "trackcore.toml"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: len(raw_archive(folder / "files")) == count and is_done())
        finally:
            process.terminate()


def raw_archive(folder: Path) -> list[dict[str, Any]]:
    """Return the complete lines of the archives, in order."""
    texts = []
    for file in sorted(folder.glob("*")):
        try:
            text = file.read_bytes()
            texts.append(gzip.decompress(text) if file.name.endswith(".gz") else text)
        except (FileNotFoundError, EOFError):  # it was replaced just now
            continue
    return [json.loads(line) for line in b"".join(texts).splitlines(keepends=True) if line.endswith(b"\n")]


class TestLinked:
    """Aliases are followed by option, and nobody else is."""

    def test_what_is_linked(self, run: Run, tmp_path: Path) -> None:
        configure(tmp_path)
        store(
            track(ANN, 1, anonymousId=DEVICE),
            track(ANN, 2, anonymousId="shared"),
            track(EVE, 1, anonymousId="shared"),
            {"type": "track", "anonymousId": DEVICE, "event": "E", "messageId": "before"},
            {"type": "alias", "userId": ANN, "previousId": "old-ann", "messageId": "alias"},
            track("old-ann", 3),
        )
        records = [json.loads(line) for line in run("export", ANN, "--linked").stdout.splitlines()]
        assert {record["message"]["messageId"] for record in records} == {
            "ann-1", "ann-2", "before", "alias", "old-3",
        }  # fmt: skip
        assert len(run("export", ANN).stdout.splitlines()) == 3


class TestExport:
    def test_where_each_message_went(self, run: Run, tmp_path: Path) -> None:
        configure(tmp_path, f'{FILES}batch_wait = "0s"\n[[destinations]]\nname = "Elsewhere"\n')
        fill()
        deliver_all(tmp_path)
        store(track(ANN, 50))
        records = [json.loads(line) for line in run("export", ANN).stdout.splitlines()]
        messages = [record for record in records if record["part"] == "messages"]
        assert [record["destinations"]["Files"] for record in messages] == ["sent"] * 8 + ["waiting"]
        assert {record["destinations"]["Elsewhere"] for record in messages} == {"selected"}
        assert {record["part"] for record in records} == {"messages", "rejected", "quarantine"}
        assert EVE not in run("export", ANN).stdout


@pytest.fixture(name="client")
def _client(tmp_path: Path) -> Client:
    configure(tmp_path, ADMIN)
    return Client(create_app(load_configuration(tmp_path / "trackcore.toml")))


HEADERS = {"Authorization": f"Bearer {TOKEN}"}


def regulation(*ids: str, type_: str = "SUPPRESS_ONLY", kind: str = "USER_ID") -> dict[str, Any]:
    return {"regulationType": type_, "subjectType": kind, "subjectIds": list(ids)}


class TestHttp:
    """The shapes of Segment's regulations and suppressions, under an admin token."""

    def test_it_is_off_by_default(self, tmp_path: Path) -> None:
        configure(tmp_path)
        client = Client(create_app(load_configuration(tmp_path / "trackcore.toml")))
        assert client.get("/regulations", headers=HEADERS).status_code == 404

    @pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {TOKEN}", TOKEN])
    def test_it_needs_the_token(self, client: Client, header: str | None) -> None:
        headers = {} if header is None else {"Authorization": header}
        for path in ("/regulations", "/regulations/x", "/suppressions"):
            response = client.get(path, headers=headers)
            assert (response.status_code, response.get_json()["code"]) == (401, "unauthorized")

    def test_suppressing(self, client: Client) -> None:
        response = client.post("/regulations", json=regulation(ANN, EVE), headers=HEADERS)
        number = response.get_json()["data"]["regulateId"]
        found = client.get(f"/regulations/{number}", headers=HEADERS).get_json()["data"]["regulation"]
        assert (found["id"], found["overallStatus"]) == (number, "FINISHED")
        listed = client.get("/suppressions", headers=HEADERS).get_json()["data"]
        assert [{**one, "subjectIds": sorted(one["subjectIds"])} for one in listed["suppressed"]] == [
            {"subjectType": "USER_ID", "subjectIds": [ANN, EVE]}
        ]
        client.post("/regulations", json=regulation(ANN, type_="UNSUPPRESS"), headers=HEADERS)
        listed = client.get("/suppressions", headers=HEADERS).get_json()["data"]
        assert listed["suppressed"] == [{"subjectType": "USER_ID", "subjectIds": [EVE]}]

    def test_a_deletion_runs_and_the_list_has_a_hash(self, client: Client, tmp_path: Path) -> None:
        store(track(ANN, 1), track(EVE, 1))
        body = regulation(ANN, type_="SUPPRESS_WITH_DELETE")
        number = client.post("/regulations/sources/website", json=body, headers=HEADERS).get_json()["data"][
            "regulateId"
        ]

        def state() -> Any:
            return client.get(f"/regulations/{number}", headers=HEADERS).get_json()["data"]["regulation"]

        wait_for(lambda: state()["overallStatus"] == "FINISHED")
        assert {one["name"]: one["status"] for one in state()["streamStatus"][0]["destinationStatus"]} == dict.fromkeys(
            ("messages", "duplicates", "rejected", "quarantine"), "FINISHED"
        )
        assert ANN.encode() not in raw_bytes(tmp_path)
        listed = client.get("/suppressions", headers=HEADERS).get_json()["data"]["suppressed"]
        assert listed[0]["subjectIds"][0].startswith("hash:")

    def test_pages(self, client: Client) -> None:
        for number in range(5):
            client.post("/regulations", json=regulation(f"p{number}"), headers=HEADERS)
        seen: list[str] = []
        cursor: str | None = "0"
        while cursor:
            query = {"pagination[count]": "2", "pagination[cursor]": cursor}
            data = client.get("/regulations", query_string=query, headers=HEADERS).get_json()["data"]
            seen += [one["id"] for one in data["regulations"]]
            cursor = data["pagination"].get("next")
        assert len(seen) == len(set(seen)) == 5
        query = {"regulationTypes": "UNSUPPRESS"}
        data = client.get("/regulations", query_string=query, headers=HEADERS).get_json()["data"]
        assert data["regulations"] == []

    @pytest.mark.parametrize(
        ("method", "path", "body", "answer"),
        [
            ("POST", "/regulations", b"{", "400 bad_body"),
            ("POST", "/regulations", b"[]", "400 bad_body"),
            ("POST", "/regulations", regulation(ANN, type_="FORGET"), "400 bad_regulation_type"),
            ("POST", "/regulations", regulation(ANN, kind="OBJECT_ID"), "400 bad_subject_type"),
            ("POST", "/regulations", regulation(), "400 bad_subject_ids"),
            ("POST", "/regulations", regulation(""), "400 bad_subject_ids"),
            ("POST", "/regulations", regulation(*map(str, range(5_001))), "400 bad_subject_ids"),
            ("POST", "/regulations/sources/nosuch", regulation(ANN), "404 not_found"),
            ("GET", "/regulations/nosuch", b"", "404 not_found"),
            ("GET", "/regulations/sources/website/x", b"", "404 not_found"),
            ("DELETE", "/regulations", b"", "405 method_not_allowed"),
            ("POST", "/suppressions", b"", "405 method_not_allowed"),
            ("GET", "/regulations?pagination[count]=0", b"", "400 bad_pagination"),
        ],
    )
    def test_errors(self, client: Client, method: str, path: str, body: Any, answer: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body)
        response = client.open(path, method=method, data=data, headers=HEADERS)
        assert f"{response.status_code} {response.get_json()['code']}" == answer


@contextmanager
def running_endpoint(reply: Reply = OK) -> Iterator[EndpointServer]:
    """Run a webhook for a block."""
    endpoint = EndpointServer(lambda _: reply)
    try:
        yield endpoint
    finally:
        endpoint.stop()
