"""`forget` in files of a lake: no row, no line and no byte of a person is left, and all of the others."""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import duckdb
import pytest
from buckets import ENVIRON, Buckets, FailingStore
from delivery_helpers import NOON, sender_context
from lake_readers import (
    READERS,
    RowDict,
    database,
    database_tables,
    fed_message,
    identify,
    parquet,
    parquet_tables,
    send,
    track,
)
from patience import PATIENCE
from trackcore_delivery import ErasureRequest, FedMessage, Forgetting, RetryLater, Sender, scratch_folder
from trackcore_duckdb import ParquetSender
from trackcore_duckdb import database as database_module
from trackcore_objects import ArchiveSender, ObjectStore
from trackcore_objects.folder import FolderStore
from trackcore_server.config.file_destinations import ArchiveDestination

from trackcore import JSONObject
from trackcore.privacy import Subject
from trackcore.warehouse import WarehouseOptions

ANN, DEVICE, EVE = "ann-4d1c8f22", "device-5511aa", "eve-99"
SUBJECTS = (Subject("user", ANN), Subject("anonymous", DEVICE))
NAMES = {SUBJECTS[0]: "forgotten-1", SUBJECTS[1]: "forgotten-2"}
Tables = Mapping[str, list[RowDict]]


def request(*, keeps: bool = False, source: str | None = None) -> ErasureRequest:
    return ErasureRequest(
        id="reg_1", subjects=SUBJECTS, source=source, requested_at=NOON, pseudonyms=NAMES if keeps else None
    )


def calls_of(person: str, device: str) -> list[JSONObject]:
    """Return messages of all calls, in which the ids are everywhere that they may be."""
    context = {"ip": "203.0.113.77", "traits": {"email": f"{person}@example.com"}, "who": person}
    mine = {"owner": person, "all": [person, "x"], "n": 1}
    return [
        {**track("Paid", **mine), "userId": person, "context": context},
        {**identify(person, name=person, plan="a"), "anonymousId": device, "context": context},
        {"type": "page", "anonymousId": device, "name": "Home", "properties": mine, "context": context},
        {"type": "alias", "userId": f"new-{person[:2]}", "previousId": person, "traits": mine},
        {"type": "group", "userId": person, "groupId": f"group-{person[:2]}", "traits": {"size": 3}},
        {**track("Paid", user_id=person), "userId": person + "x", "anonymousId": device},  # a discard has an id too
    ]


def messages_of(*persons: tuple[str, str], days: int = 2) -> list[FedMessage]:
    """Return messages of persons in turns; each person has the same positions, whoever else there is."""
    found = []
    for number, (person, device) in enumerate(((ANN, DEVICE), (EVE, "device-e"))):
        for day in range(days):
            for place, call in enumerate(calls_of(person, device)):
                position = 1 + 100 * day + 2 * place + number
                message = fed_message(position, call, received_at=NOON + timedelta(days=day))
                found += [message] if (person, device) in persons else []
    return sorted(found)


BOTH = messages_of((ANN, DEVICE), (EVE, "device-e"))
OTHERS = messages_of((EVE, "device-e"))


def forget(sender: Sender, erasure: ErasureRequest) -> None:
    assert isinstance(sender, Forgetting)
    sender.forget(erasure)


def without_columns_of_nobody(tables: Tables, expected: Tables) -> Tables:
    """Return tables without those that have no row any more."""
    return {table: rows for table, rows in tables.items() if rows or table in expected}


class TestTables:
    """Rows of the person are deleted in all tables, or kept under a pseudonym without traits and address."""

    @pytest.mark.parametrize("kind", READERS)
    def test_what_is_left_is_what_the_others_have_sent(self, kind: str, tmp_path: Path) -> None:
        reader = READERS[kind]
        for folder, messages in ((tmp_path / "a", BOTH), (tmp_path / "b", OTHERS)):
            folder.mkdir()
            for day in range(2):  # a file for each day and batch
                batch = [one for one in messages if one.received_at == NOON + timedelta(days=day)]
                send(reader.sender(folder), batch)
        forget(reader.sender(tmp_path / "a"), request())
        held, expected = reader.tables(tmp_path / "a", "web"), reader.tables(tmp_path / "b", "web")
        if kind == "duckdb":  # the latest traits of a group stay: they are of the group
            held = {**held, "accounts": [row for row in held["accounts"] if row["id"] != "group-an"]}
        assert without_columns_of_nobody(held, expected) == expected
        assert ANN not in repr(held)
        assert DEVICE not in repr(held)

    @pytest.mark.parametrize("kind", READERS)
    def test_rows_are_kept_under_a_pseudonym(self, kind: str, tmp_path: Path) -> None:
        """They are those of the messages that the log keeps."""
        reader, keeping = READERS[kind], request(keeps=True)
        kept = [one._replace(payload=keeping.apply(one.payload) or b"") for one in BOTH]
        for folder, messages in ((tmp_path / "a", BOTH), (tmp_path / "b", kept)):
            folder.mkdir()
            send(reader.sender(folder), messages)
        forget(reader.sender(tmp_path / "a"), keeping)
        held, expected = reader.tables(tmp_path / "a", "web"), reader.tables(tmp_path / "b", "web")
        for table in sorted(expected.keys() - {"users", "accounts", "_discards"}):
            assert held[table] == expected[table], table
        assert [row["id"] for row in held["users"]] == [EVE]
        assert f"{ANN}'" not in repr(held)
        assert DEVICE not in repr(held)

    @pytest.mark.parametrize("kind", READERS)
    def test_only_in_the_tables_of_a_source(self, kind: str, tmp_path: Path) -> None:
        reader = READERS[kind]
        send(reader.sender(tmp_path), [*BOTH, *(one._replace(source="app") for one in BOTH)])
        before = reader.tables(tmp_path, "web")
        forget(reader.sender(tmp_path), request(source="app"))
        assert reader.tables(tmp_path, "web") == before
        assert {row["user_id"] for row in reader.table(tmp_path, "paid", "app")} == {EVE, f"{EVE}x"}

    @pytest.mark.parametrize("kind", READERS)
    def test_there_may_be_nothing(self, kind: str, tmp_path: Path) -> None:
        forget(READERS[kind].sender(tmp_path), request())
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("kind", READERS)
    def test_ids_are_data(self, kind: str, tmp_path: Path) -> None:
        ids = ["'; DROP SCHEMA web CASCADE; --", '["x"]', "a'b\"c\\", "%_", "\0", "é"]
        reader = READERS[kind]
        send(reader.sender(tmp_path), [*OTHERS, *(fed_message(900 + n, identify(one)) for n, one in enumerate(ids))])
        arrays = [{**track("Listed", all=[one, "x"]), "userId": one} for one in [*ids, EVE]]
        send(reader.sender(tmp_path), [fed_message(920 + n, one) for n, one in enumerate(arrays)])
        subjects = tuple(Subject("user", one) for one in ids)
        names = {subject: f"p{number}" for number, subject in enumerate(subjects)}
        held = request()
        forget(reader.sender(tmp_path), attrs.evolve(held, subjects=subjects, pseudonyms=names))
        users = [row["user_id"] for row in reader.table(tmp_path, "identifies") if row["id"] >= "m9"]
        assert users == [f"p{number}" for number in range(len(ids))]
        listed = [row["all"] for row in reader.table(tmp_path, "listed") if row["user_id"] != EVE]
        assert sorted(listed) == [f'["p{number}","x"]' for number in range(len(ids))]
        forget(reader.sender(tmp_path), attrs.evolve(held, subjects=tuple(Subject("user", one) for one in users)))
        assert {row["user_id"] for row in reader.table(tmp_path, "identifies")} == {EVE}


class TestDatabase:
    """After it no file has the bytes: freed blocks of a database have them until it is rewritten."""

    @pytest.fixture(name="filled")
    def _filled(self, tmp_path: Path) -> Path:
        """Return a database in which texts are readable as bytes."""
        file = tmp_path / "out.duckdb"
        send(database().make_sender(sender_context(tmp_path)), BOTH)
        with duckdb.connect(str(file)) as connection:
            connection.execute("PRAGMA force_compression = 'uncompressed'")
            connection.execute("CREATE TABLE padding AS SELECT range AS n FROM range(100_000)")
            for table in ("tracks", "paid", "identifies"):
                connection.execute(f"UPDATE web.{table} SET context_who = context_who || ''")  # noqa: S608
            connection.execute("CREATE VIEW web.buyers AS SELECT user_id FROM web.paid")
            connection.execute("CREATE INDEX mine ON web.tracks (user_id)")
        assert ANN.encode() in file.read_bytes()
        return tmp_path

    def test_no_byte_is_left(self, filled: Path) -> None:
        file = filled / "out.duckdb"
        file.chmod(0o640)
        with duckdb.connect(str(file)) as connection:
            connection.execute("DELETE FROM web.tracks; CHECKPOINT")
        assert ANN.encode() in file.read_bytes()  # a deletion does not overwrite
        forget(database().make_sender(sender_context(filled)), request())
        assert [path.name for path in filled.iterdir()] == ["out.duckdb"]
        assert ANN.encode() not in file.read_bytes()
        assert file.stat().st_mode & 0o777 == 0o640

    def test_what_others_have_made_in_it_stays(self, filled: Path) -> None:
        sender = database().make_sender(sender_context(filled))
        forget(sender, request())
        send(sender, OTHERS)  # again: the keys are there
        with duckdb.connect(str(filled / "out.duckdb")) as connection:
            assert set(connection.execute("FROM web.buyers").fetchall()) == {(EVE,), (f"{EVE}x",)}
            assert connection.execute("SELECT count(*) FROM padding").fetchall() == [(100_000,)]
            assert connection.execute("SELECT index_name FROM duckdb_indexes()").fetchall() == [("mine",)]
            assert connection.execute("SELECT count(*) FROM web.tracks").fetchall() == [(4,)]

    def test_it_is_rewritten_after_an_interruption(self, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        file = filled / "out.duckdb"
        sender = database().make_sender(sender_context(filled))
        with monkeypatch.context() as patched:
            patched.setattr(database_module, "rewrite_file", fail)
            with pytest.raises(RetryLater, match="No space left"):
                forget(sender, request())
        assert ANN.encode() in file.read_bytes()
        (filled / ".out.duckdb.part").write_bytes(b"of a process that was killed")
        (filled / ".out.duckdb.part.wal").write_bytes(b"the same")
        forget(sender, request())
        assert ANN.encode() not in file.read_bytes()
        assert [path.name for path in filled.iterdir()] == ["out.duckdb"]

    def test_while_another_process_has_it_open_it_waits(self, filled: Path) -> None:
        script = "import sys, duckdb; c = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
        command = [sys.executable, "-c", script, str(filled / "out.duckdb")]
        sender = database().make_sender(sender_context(filled))
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            with pytest.raises(RetryLater, match="lock"):
                forget(sender, request())
            holder.communicate("", timeout=PATIENCE)
        forget(sender, request())
        assert ANN not in repr(database_tables(filled))


@attrs.frozen(kw_only=True)
class Files:
    """A kind of files, and its messages or rows as they can be compared."""

    sender: Callable[[ObjectStore], Sender]
    content: Callable[[Path], Any]


def of_archive(folder: Path) -> list[bytes]:
    return sorted(line for path in folder.rglob("*.gz") for line in gzip.decompress(path.read_bytes()).splitlines())


FILES = {
    "s3-archive": Files(sender=ArchiveSender, content=of_archive),
    "parquet": Files(
        sender=lambda store: ParquetSender(store=store, options=WarehouseOptions(declare=()), schema="{source}"),
        content=parquet_tables,
    ),
}


@pytest.fixture(name="kind", params=FILES)
def _kind(request: pytest.FixtureRequest) -> Files:
    return FILES[request.param]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class TestFiles:
    """Files of the person are replaced, or deleted if they have nothing else; whatever fails, it can be resumed."""

    def fill(self, kind: Files, folder: Path, messages: Sequence[FedMessage] = BOTH, size: int = 5) -> Sender:
        sender = kind.sender(FolderStore(folder / "out"))
        for first in range(0, len(messages), size):
            send(sender, messages[first : first + size])
        return sender

    def test_other_lines_stay_byte_for_byte(self, tmp_path: Path) -> None:
        sender = self.fill(FILES["s3-archive"], tmp_path)
        forget(sender, request())
        assert of_archive(tmp_path) == sorted(one.payload for one in OTHERS)
        kept = self.fill(FILES["s3-archive"], tmp_path / "kept")
        forget(kept, request(keeps=True))
        expected = [request(keeps=True).apply(one.payload) for one in BOTH]
        assert of_archive(tmp_path / "kept") == sorted(line for line in expected if line)

    def test_files_of_others_are_not_touched(self, kind: Files, tmp_path: Path) -> None:
        sender = self.fill(kind, tmp_path, OTHERS)
        before = {path: path.stat().st_ino for path in (tmp_path / "out").rglob("*") if path.is_file()}
        forget(sender, request())
        assert {path: path.stat().st_ino for path in (tmp_path / "out").rglob("*") if path.is_file()} == before

    def test_no_byte_is_left(self, kind: Files, tmp_path: Path) -> None:
        """In Parquet also not in the statistics of a column, which are not compressed."""
        sender = self.fill(kind, tmp_path, size=1)  # files of one person alone too
        if kind is FILES["parquet"]:
            assert any(ANN.encode() in text for text in files_of(tmp_path).values())
        forget(sender, request())
        texts = b"".join([*files_of(tmp_path).values(), *of_archive(tmp_path)])
        assert ANN.encode() not in texts
        assert DEVICE.encode() not in texts
        assert ANN not in repr(kind.content(tmp_path))

    def test_a_batch_that_comes_again_adds_nothing(self, kind: Files, tmp_path: Path) -> None:
        """The log has forgotten them before, so it does not come with them; and names of files stay valid."""
        sender = self.fill(kind, tmp_path)
        forget(sender, request())
        before = files_of(tmp_path)
        self.fill(kind, tmp_path, OTHERS, size=3)
        assert files_of(tmp_path) == before

    def test_a_batch_under_pseudonyms_that_comes_again_adds_nothing(self, tmp_path: Path) -> None:
        sender, keeping = self.fill(FILES["s3-archive"], tmp_path), request(keeps=True)
        forget(sender, keeping)
        before = files_of(tmp_path)
        kept = [one._replace(payload=keeping.apply(one.payload) or b"") for one in BOTH]
        self.fill(FILES["s3-archive"], tmp_path, kept, size=3)
        assert files_of(tmp_path) == before

    def test_a_name_is_free_again(self, kind: Files, tmp_path: Path) -> None:
        """A person who is no longer suppressed may send the same messages, as a restored log does."""
        sender = self.fill(kind, tmp_path, size=1)
        before = kind.content(tmp_path)
        forget(sender, request())
        self.fill(kind, tmp_path, size=1)
        assert kind.content(tmp_path) == before

    @pytest.mark.parametrize(("keeps", "is_done"), [(False, False), (True, True)], ids=["not-done", "answer-lost"])
    def test_it_fails_at_any_call_and_is_resumed(
        self, kind: Files, keeps: bool, is_done: bool, is_long: bool, tmp_path: Path
    ) -> None:
        self.fill(kind, tmp_path / "filled", messages_of((ANN, DEVICE), (EVE, "device-e"), days=1), size=6)
        content = files_of(tmp_path / "filled")
        whole = self.copied(content, tmp_path / "whole")
        forget(kind.sender(FolderStore(whole / "out")), request(keeps=keeps))
        at = 2
        while True:
            folder = self.copied(content, tmp_path / f"at-{at}")
            failing = FailingStore(FolderStore(folder / "out"), at, is_done)
            with suppress(RetryLater):
                forget(kind.sender(failing), request(keeps=keeps))
            if failing.calls < at:
                break
            forget(kind.sender(FolderStore(folder / "out")), request(keeps=keeps))
            assert kind.content(folder) == kind.content(whole)
            at += 1 if is_long or kind is FILES["s3-archive"] else 13
        assert at > 5

    def copied(self, content: Mapping[str, bytes], folder: Path) -> Path:
        for name, text in content.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(text)
        return folder

    def test_a_damaged_file_is_named(self, tmp_path: Path) -> None:
        sender = self.fill(FILES["s3-archive"], tmp_path, OTHERS, size=50)
        path = next((tmp_path / "out").rglob("*.gz"))
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(RetryLater, match="damaged"):
            forget(sender, request())


class TestBucket:
    """Objects are overwritten or deleted.  (Versions of a bucket that keeps them are for its owner to delete.)"""

    @pytest.mark.parametrize("make", [parquet, lambda **settings: ArchiveDestination(name="There", **settings)])
    def test_it_is_as_in_a_folder(self, make: Any, buckets: Buckets, tmp_path: Path) -> None:
        bucket = buckets.make()
        settings = buckets.settings(bucket.name)
        messages = [*BOTH, *(one._replace(source="ü b/c") for one in BOTH)]
        for sender in (make(**settings), make(location="out")):
            opened = sender.make_sender(sender_context(tmp_path, ENVIRON))
            send(opened, messages)
            forget(opened, request(source="web"))
            forget(opened, request())
        contents = [bucket.content, files_of(tmp_path / "out")]
        assert [key.removeprefix("a/b/") for key in contents[0]] == sorted(contents[1])
        for text in contents[0].values():
            assert ANN.encode() not in (gzip.decompress(text) if text[:2] == b"\x1f\x8b" else text)
        assert len({key.rpartition("/")[0] for key in contents[0]}) >= 4  # of both sources


_KILLED = """
import os, signal, sys
from trackcore_delivery import scratch_folder
with scratch_folder() as folder:
    (folder / "lines").write_text(sys.argv[1])
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


class TestTemporaryFiles:
    """Files of a process that was killed are deleted, since they have messages; those in use stay."""

    @pytest.fixture(autouse=True)
    def _temporary(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        (tmp_path / "tmp").mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield
        tempfile.tempdir = None

    def test_leftovers_are_deleted(self, tmp_path: Path) -> None:
        done = subprocess.run([sys.executable, "-c", _KILLED, ANN], capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL
        leftover = Path(done.stdout.strip())
        assert (leftover / "lines").read_text() == ANN
        (tmp_path / "tmp" / "trackcore-of-others").mkdir()
        with scratch_folder() as used:
            forget(database().make_sender(sender_context(tmp_path)), request())
            assert leftover.exists()  # there is no database, so nothing is done
            send(database().make_sender(sender_context(tmp_path)), OTHERS)
            forget(database().make_sender(sender_context(tmp_path)), request())
            assert (used.exists(), leftover.exists()) == (True, False)
        assert [path.name for path in (tmp_path / "tmp").iterdir()] == ["trackcore-of-others"]
