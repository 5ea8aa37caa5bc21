"""`trackcore import`: historical messages, with their own times, once."""

import gzip
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from adapter_helpers import back_up, overwrite, put_in_place
from click.testing import CliRunner, Result
from patience import wait_for
from served import COMMAND
from trackcore_server.cli import import_files as import_module
from trackcore_server.cli._main import main
from trackcore_sqlite import SqliteBrowser, SqliteLog, SqliteSink

from trackcore import SinkUnavailable, StoredMessage

CONFIGURATION = """
[[sources]]
name = "website"
write_keys = ["k"]
destinations = ["Any age", "Recent"]
[[destinations]]
name = "Any age"
[[destinations]]
name = "Recent"
max_age = "5d"
[[destinations]]
name = "Not ours"
"""


@pytest.fixture(name="folder", autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TRACKCORE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trackcore.toml").write_text(CONFIGURATION)
    return tmp_path


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["import", *arguments], input=stdin)


def log() -> list[StoredMessage]:
    return list(SqliteLog("trackcore.db").messages())


def old(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "type": "track",
        "event": "E",
        "userId": "u",
        "messageId": f"m{number}",
        "timestamp": f"2019-05-06T07:08:{number % 60:02}.009Z",
        **fields,
    }


def lines(documents: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


FORMS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "json lines": lines,
    "an array": lambda messages: json.dumps(messages, indent=1).encode(),
    "a batch": lambda messages: json.dumps({"batch": messages}, indent=1).encode(),
    "batches": lambda messages: lines({"batch": messages[at : at + 2]} for at in range(0, len(messages), 2)),
    "mixed lines": lambda messages: lines([messages[0], {"batch": messages[1:3]}, *messages[3:]]),
    "with a mark and carriage returns": lambda messages: b"\xef\xbb\xbf" + lines(messages).replace(b"\n", b"\r\n"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_every_form_of_file_is_read(folder: Path, form: str, *, packed: bool) -> None:
    messages = [old(number) for number in range(5)]
    text = FORMS[form](messages)
    (folder / "file").write_bytes(gzip.compress(text) if packed else text)
    result = run("file")
    assert (result.exit_code, result.stderr) == (0, "5 stored, 0 in the log already, 0 rejected\n")
    assert [stored.message["messageId"] for stored in log()] == [f"m{number}" for number in range(5)]


class TestTimes:
    def test_a_timestamp_is_kept_whatever_sent_at_says(self, folder: Path) -> None:
        """An archive has both: corrected by `sentAt` the messages would be of today."""
        messages = [old(1, sentAt="2019-05-06T07:09:00Z", receivedAt="2019-05-06T07:09:01Z"), old(2)]
        (folder / "file").write_bytes(lines([*messages, {"batch": [old(3)], "sentAt": "2019-05-06T07:09:00Z"}]))
        assert run("file").exit_code == 0
        assert [stored.message["timestamp"] for stored in log()] == [
            f"2019-05-06T07:08:0{number}.009Z" for number in (1, 2, 3)
        ]

    def test_an_archive_keeps_the_times_of_the_client(self, folder: Path) -> None:
        """They are corrected already; a second correction would move them to today."""
        archived = {
            "originalTimestamp": "2015-12-12T19:11:01.152Z",
            "sentAt": "2015-12-12T19:11:01.169Z",
            "receivedAt": "2015-12-12T19:11:01.266Z",
            "timestamp": "2015-12-12T19:11:01.249Z",
        }
        (folder / "file").write_bytes(lines([old(1, **archived)]))
        assert run("file").exit_code == 0
        (stored,) = log()
        assert {name: stored.message[name] for name in archived} == {
            **archived,
            "receivedAt": stored.received_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }

    @pytest.mark.parametrize(
        ("times", "found"),
        [
            (
                {"originalTimestamp": "2015-12-12T19:11:01.152Z", "receivedAt": "2015-12-13T00:00:00Z"},
                "12T19:11:01.152",
            ),
            ({"original_timestamp": "2015-12-12 19:11:01.152 UTC", "received_at": "x"}, "12T19:11:01.152"),
            ({"receivedAt": "2015-12-12T19:11:01.266Z"}, "12T19:11:01.266"),
            ({"received_at": "2015-12-12 19:11:01.266 UTC"}, "12T19:11:01.266"),
            ({"time_stamp": "2015-12-12T19:11:01.249Z", "receivedAt": "2020-01-01T00:00:00Z"}, "12T19:11:01.249"),
            ({"timeStamp": "2015-12-12T19:11:01.249Z", "original_timestamp": "2020-01-01"}, "12T19:11:01.249"),
            ({"time_stamp": None, "Timestamp": "2015-12-12T19:11:01.249Z"}, "12T19:11:01.249"),
        ],
    )
    def test_another_time_of_the_archive_stands_for_a_missing_one(
        self, folder: Path, times: dict[str, Any], found: str
    ) -> None:
        (folder / "file").write_bytes(lines([{**old(1), "timestamp": None, **times}]))
        assert run("file").exit_code == 0
        assert [stored.message["timestamp"] for stored in log()] == [f"2015-12-{found}Z"]

    @pytest.mark.parametrize(
        ("time", "code"),
        [
            (None, "historical_time_missing"),
            ("", "historical_time_missing"),
            ("02/01/2015", "historical_time_unparsable"),
            (0, "historical_time_unparsable"),
            ({"a": 1}, "historical_time_unparsable"),
        ],
    )
    def test_a_message_without_a_time_is_rejected(self, folder: Path, time: Any, code: str) -> None:
        """As of now it would pass every `max_age`.  It cannot be received again either, which would do just that."""
        (folder / "file").write_bytes(lines([{**old(1), "timestamp": time}]))
        result = run("file")
        assert (result.exit_code, result.stderr.splitlines()[1:]) == (1, [f"  1 {code}"])
        again = CliRunner().invoke(main, ["rejected", "--retry"])
        assert "import_only" in again.stdout
        assert not log()

    @pytest.mark.parametrize("name", ["time_stamp", "timeStamp", "original_timestamp", "received_at"])
    def test_a_name_that_was_read_as_that_of_a_time_is_no_near_miss(self, folder: Path, name: str) -> None:
        messages = [{**old(1), "timestamp": None, name: "2015-12-12T19:11:01.152Z"}, {**old(2), name: "2015"}]
        (folder / "file").write_bytes(lines(messages))
        assert run("file").exit_code == 0
        read, unread = log()
        assert read.message["timestamp"] == read.message[name] == "2015-12-12T19:11:01.152Z"
        assert read.warnings == ()
        assert [(warning["code"], warning["path"]) for warning in unread.warnings] == [("field_near_miss", name)]

    def test_the_time_that_cannot_be_read_is_named(self, folder: Path) -> None:
        (folder / "file").write_bytes(lines([{**old(1), "timestamp": None, "time_stamp": "last tuesday"}]))
        assert run("file").exit_code == 1
        (rejected,) = SqliteLog("trackcore.db").rejected()
        assert (rejected.code, rejected.path) == ("historical_time_unparsable", "time_stamp")

    def test_warnings_are_counted_in_the_summary(self, folder: Path) -> None:
        (folder / "file").write_bytes(lines([old(1, timestamp="2015-12-12"), old(2, user_id="u"), old(3)]))
        result = run("file")
        assert result.exit_code == 0
        assert sorted(result.stderr.splitlines()[1:]) == [
            "  1 warning: field_near_miss",
            "  1 warning: timestamp_without_offset",
        ]

    def test_a_destination_with_a_max_age_does_not_get_what_is_older(self, folder: Path) -> None:
        (folder / "file").write_bytes(lines([old(1), {**old(2), "timestamp": datetime.now(UTC).isoformat()}]))
        assert run("file").exit_code == 0
        assert [stored.destinations for stored in log()] == [("Any age",), ("Any age", "Recent")]
        assert {stored.found_by for stored in log()} == {"file"}, "how its source was found"


class TestOnce:
    def test_the_same_again_stores_nothing(self, folder: Path) -> None:
        (folder / "file").write_bytes(lines(old(number) for number in range(3)))
        run("file")
        assert run("file").stderr == "0 stored, 3 in the log already, 0 rejected\n"

    def test_a_message_without_an_id_gets_one_of_its_content(self, folder: Path) -> None:
        """So that it is one message, however it is written, and another one where anything differs."""
        nameless = [{**old(number), "messageId": None} for number in (1, 2)]
        rearranged = json.dumps(dict(reversed(nameless[0].items())), indent=2).encode()
        (folder / "one").write_bytes(lines([*nameless, old(3)]))
        (folder / "two").write_bytes(rearranged)
        (folder / "three").write_bytes(json.dumps({"batch": nameless[:1], "context": {"app": "x"}}).encode())
        assert run("one").stderr == "3 stored, 0 in the log already, 0 rejected\n"
        assert run("one").stderr == "0 stored, 3 in the log already, 0 rejected\n"
        assert run("two").stderr == "0 stored, 1 in the log already, 0 rejected\n"
        assert run("three").stderr == "1 stored, 0 in the log already, 0 rejected\n"
        ids = [stored.message["messageId"] for stored in log()]
        assert ids[2] == "m3"
        assert all(message_id.startswith("import-") for message_id in (*ids[:2], ids[3]))

    def test_a_nested_message_id_is_no_message_id(self, folder: Path) -> None:
        (folder / "file").write_bytes(lines([{**old(1), "messageId": "", "properties": {"messageId": "inner"}}]))
        run("file")
        assert run("file").stderr == "0 stored, 1 in the log already, 0 rejected\n"
        assert log()[0].message["messageId"].startswith("import-")


class TestOccurrences:
    """The n-th message of the same content in a file is another one than the first, at each attempt the same one."""

    CLICK: ClassVar = {**old(1), "messageId": None}

    def test_identical_lines_are_as_many_messages(self, folder: Path) -> None:
        (folder / "file").write_bytes(lines([self.CLICK, self.CLICK, {**old(2), "messageId": " "}, self.CLICK]))
        (folder / "copy").write_bytes((folder / "file").read_bytes())
        assert run("file").stderr == "4 stored, 0 in the log already, 0 rejected\n"
        assert run("file").stderr == "0 stored, 4 in the log already, 0 rejected\n"
        assert run("copy").stderr == "0 stored, 4 in the log already, 0 rejected\n"

    @pytest.mark.parametrize("form", ["an array", "a batch", "batches"])
    def test_in_every_form_of_file(self, folder: Path, form: str) -> None:
        (folder / "file").write_bytes(FORMS[form]([self.CLICK] * 5))
        assert run("file").stderr == "5 stored, 0 in the log already, 0 rejected\n"
        assert run("file").stderr == "0 stored, 5 in the log already, 0 rejected\n"

    def test_one_more_line_in_front_is_one_more_message(self, folder: Path) -> None:
        (folder / "file").write_bytes(lines([self.CLICK] * 3))
        run("file")
        (folder / "file").write_bytes(lines([old(9), *[self.CLICK] * 4]))
        assert run("file").stderr == "2 stored, 3 in the log already, 0 rejected\n"

    def test_an_import_that_goes_on_counts_what_it_skips(self, folder: Path) -> None:
        """As after a kill: the note states that the first lines are done."""
        (folder / "before").write_bytes(lines([self.CLICK, old(2)]))
        (folder / "file").write_bytes(lines([self.CLICK, old(2), self.CLICK]))
        status = (folder / "file").stat()
        key = json.dumps([str(folder.resolve() / "file"), status.st_size, status.st_mtime_ns, "website", None])
        run("before")
        (folder / "trackcore-import.json").write_text(json.dumps({key: [2, SqliteBrowser("trackcore.db").head()]}))
        result = run("file")
        assert "continuing after line 2" in result.stderr
        assert "1 stored, 0 in the log already, 0 rejected" in result.stderr
        assert run("file").stderr == "0 stored, 3 in the log already, 0 rejected\n"


class TestOtherLogs:
    """A note of how far a file has come counts in the log of which it was made, and in nothing else."""

    SEED = 7
    """So many messages are in the log, and in the backup, before the import begins."""

    @pytest.fixture(autouse=True)
    def _small_chunks(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(import_module, "_CHUNK_DOCUMENTS", 5)
        (folder / "seed").write_bytes(lines(old(number) for number in range(100, 100 + self.SEED)))
        assert run("seed").exit_code == 0
        back_up(folder / "trackcore.db", folder / "backup.db")

    @staticmethod
    def interrupted(monkeypatch: pytest.MonkeyPatch, *, after: int, by: Callable[[], object] | None = None) -> None:
        """Run an import of which so many chunks are stored, and no more, by what is done then."""
        store = SqliteSink.store
        calls: list[Any] = []

        def failing(self: SqliteSink, *arguments: Any, **named: Any) -> Any:
            if len(calls) == after and by is None:
                raise SinkUnavailable("interrupted")
            calls.append(store(self, *arguments, **named))
            if len(calls) == after and by is not None:
                by()
            return calls[-1]

        with monkeypatch.context() as patched:
            patched.setattr(SqliteSink, "store", failing)
            assert run("file").exit_code == 2

    @pytest.mark.parametrize("restored", ["nothing", "backup", "backup that has grown", "another log", "overwritten"])
    @pytest.mark.parametrize("is_bad", [False, True], ids=["messages", "rejected"])
    def test_nothing_is_left_out(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, restored: str, *, is_bad: bool
    ) -> None:
        messages = [old(number, event="" if is_bad else "E") for number in range(30)]
        (folder / "file").write_bytes(lines(messages))
        self.interrupted(monkeypatch, after=3)
        assert (folder / "trackcore-import.json").exists()
        path = folder / "trackcore.db"
        if restored == "overwritten":
            overwrite(path, folder / "backup.db")
        elif restored != "nothing":
            put_in_place(path, None if restored == "another log" else folder / "backup.db")
        if restored in {"backup that has grown", "another log"}:
            (folder / "more").write_bytes(lines(old(number) for number in range(200, 300)))
            assert run("more").exit_code == 0
        result = run("file")
        assert ("continuing after line 10" in result.stderr) == (restored == "nothing")
        wanted = {f"m{number}" for number in range(30)}
        kept = [json.loads(record.payload)["messageId"] for record in SqliteLog(path).rejected()]
        found = kept if is_bad else [stored.message["messageId"] for stored in log()]
        assert wanted <= set(found)
        assert result.exit_code == (1 if is_bad else 0)

    def test_the_log_is_replaced_between_a_chunk_and_its_note(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "file").write_bytes(lines(old(number) for number in range(30)))
        path = folder / "trackcore.db"
        self.interrupted(monkeypatch, after=3, by=lambda: put_in_place(path, folder / "backup.db"))
        assert run("file").exit_code == 0
        assert {f"m{number}" for number in range(30)} <= {stored.message["messageId"] for stored in log()}

    def test_a_note_of_before_there_were_proofs_counts_for_nothing(self, folder: Path) -> None:
        (folder / "file").write_bytes(lines(old(number) for number in range(5)))
        status = (folder / "file").stat()
        key = json.dumps([str(folder.resolve() / "file"), status.st_size, status.st_mtime_ns, "website", None])
        (folder / "trackcore-import.json").write_text(json.dumps({key: 4}))
        assert run("file").stderr == "5 stored, 0 in the log already, 0 rejected\n"


class TestDamagedFiles:
    """A truncated `.gz` reports its counts so far and that it is truncated, and exits with findings."""

    @pytest.mark.parametrize("cut", [1, 30, 200])
    def test_what_came_before_the_end_is_stored(self, folder: Path, cut: int) -> None:
        whole = gzip.compress(lines(old(number, properties={"x": os.urandom(40).hex()}) for number in range(50)))
        (folder / "file.gz").write_bytes(whole[:-cut])
        result = run("file.gz")
        assert result.exit_code == 1
        assert "file.gz: the file is truncated: its gzip stream ends too early" in result.stderr
        stored = [message.message["messageId"] for message in log()]
        assert stored
        assert stored == [f"m{number}" for number in range(len(stored))]
        assert f"{len(stored)} stored, 0 in the log already, 0 rejected" in result.stderr

    def test_what_follows_the_stream_is_reported(self, folder: Path) -> None:
        (folder / "file.gz").write_bytes(gzip.compress(lines([old(1)])) + b"rubbish")
        result = run("file.gz")
        assert result.exit_code == 1
        assert "file.gz: the file is damaged: Not a gzipped file" in result.stderr
        assert len(log()) == 1

    def test_standard_input_may_be_compressed(self) -> None:
        assert run("-", stdin=gzip.compress(lines([old(1)]))).stderr.startswith("1 stored")


class TestMistakes:
    def test_bad_messages_are_rejected_by_themselves(self, folder: Path) -> None:
        bad = b'not json\n{"type":"track"}\n[1]\n' + lines([{"batch": [old(2), {"type": "x", "userId": "u"}]}])
        (folder / "file").write_bytes(lines([old(1)]) + bad + lines([old(3)]))
        result = run("file")
        assert result.exit_code == 1
        assert result.stderr.splitlines()[0] == "3 stored, 0 in the log already, 4 rejected"
        codes = ("body_not_object", "invalid_json", "no_user_anon_id", "unknown_type")
        assert sorted(result.stderr.splitlines()[1:]) == [f"  1 {code}" for code in codes]
        assert len(list(SqliteLog("trackcore.db").rejected())) == 4

    def test_what_single_messages_are_may_be_said(self, folder: Path) -> None:
        (folder / "file").write_bytes(lines([{**old(1), "type": None}]))
        assert run("file").exit_code == 1
        assert run("--type", "track", "file").stderr.startswith("1 stored")

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["none"], "none: No such file or directory"),
            (["--source", "websit", "none"], "unknown source 'websit'; did you mean 'website'?"),
            (["utf16"], "utf16: the file is UTF-16, and JSON is UTF-8; convert it: iconv -f UTF-16 -t UTF-8"),
            (["."], ".: Is a directory"),
        ],
    )
    def test_what_cannot_be_done_is_reported(self, folder: Path, arguments: list[str], expected: str) -> None:
        (folder / "utf16").write_bytes(lines(old(number) for number in range(9)).decode().encode("utf-16"))
        result = run(*arguments)
        assert result.exit_code == 2
        assert expected in result.stderr

    @pytest.mark.parametrize("bad", ["none", "utf16", "."])
    def test_a_file_that_cannot_be_read_does_not_hide_the_others(self, folder: Path, bad: str) -> None:
        (folder / "utf16").write_bytes(lines([old(9)]).decode().encode("utf-16"))
        (folder / "before").write_bytes(lines([old(1), {**old(2), "event": None}]))
        (folder / "behind").write_bytes(lines([old(3)]))
        result = run("before", bad, "behind")
        assert result.exit_code == 2
        shown = result.stderr.splitlines()
        assert shown[0].startswith(f"Error: {bad}: ")
        assert shown[1:] == ["2 stored, 0 in the log already, 1 rejected", "  1 event_not_defined"]
        assert [stored.message["messageId"] for stored in log()] == ["m1", "m3"]

    def test_which_source_must_be_said_where_there_are_several(self, folder: Path) -> None:
        (folder / "trackcore.toml").write_text(CONFIGURATION + '[[sources]]\nname = "app"\nwrite_keys = ["a"]')
        (folder / "file").write_bytes(lines([old(1)]))
        assert "choose one by --source: website, app" in run("file").stderr
        assert run("--source", "app", "file").exit_code == 0
        assert [stored.source for stored in log()] == ["app"]

    def test_standard_input_is_read(self) -> None:
        assert run("-", stdin=lines([old(1)])).stderr.startswith("1 stored")


def test_an_import_that_was_killed_goes_on_where_it_was(folder: Path) -> None:
    """Nothing is lost, nothing is there twice, and what was done is not read again."""
    count = 30_000
    (folder / "file.gz").write_bytes(gzip.compress(lines(old(number) for number in range(count)), 1))
    process = subprocess.Popen([*COMMAND, "import", "file.gz"], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: (folder / "trackcore-import.json").exists() or process.poll() is not None)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = len(log())
    assert 0 < done < count
    result = run("file.gz")
    assert result.exit_code == 0
    assert "file.gz: continuing after line " in result.stderr
    assert [stored.message["messageId"] for stored in log()] == [f"m{number}" for number in range(count)]
    summary = re.search(r"([\d,]+) stored, ([\d,]+) in the log already, 0 rejected", result.stderr)
    assert summary is not None
    stored, duplicates = (int(number.replace(",", "")) for number in summary.groups())
    assert stored == count - done
    assert duplicates <= 4_000, "at most what was committed and not yet noted is looked at again"
    assert not (folder / "trackcore-import.json").exists()
