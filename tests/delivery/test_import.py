"""`trackcore import`: historical messages, with their own times, once."""

import gzip
import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from delivery_helpers import wait_for
from delivery_processes import COMMAND
from trackcore_server.cli import main
from trackcore_sqlite import SqliteLog, StoredMessage

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
        assert not any("sentAt" in stored.message for stored in log())

    def test_a_destination_with_a_max_age_does_not_get_what_is_older(self, folder: Path) -> None:
        (folder / "file").write_bytes(lines([old(1), {**old(2), "timestamp": None}]))
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
        ("arguments", "told"),
        [
            (["none"], "none: No such file or directory"),
            (["--source", "websit", "none"], "there is no source 'websit'; did you mean 'website'?"),
            (["broken.gz"], "broken.gz: Compressed file ended before the end-of-stream marker was reached"),
            (["."], ".: Is a directory"),
        ],
    )
    def test_what_cannot_be_done_is_told(self, folder: Path, arguments: list[str], told: str) -> None:
        (folder / "broken.gz").write_bytes(gzip.compress(lines(old(number) for number in range(9)))[:60])
        result = run(*arguments)
        assert result.exit_code == 2
        assert told in result.stderr

    def test_which_source_must_be_said_where_there_are_several(self, folder: Path) -> None:
        (folder / "trackcore.toml").write_text(CONFIGURATION + '[[sources]]\nname = "app"\nwrite_keys = ["a"]')
        (folder / "file").write_bytes(lines([old(1)]))
        assert "--source whose messages they are: website, app" in run("file").stderr
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
    assert "file.gz: going on behind line " in result.stderr
    assert [stored.message["messageId"] for stored in log()] == [f"m{number}" for number in range(count)]
    summary = re.search(r"([\d,]+) stored, ([\d,]+) in the log already, 0 rejected", result.stderr)
    assert summary is not None
    stored, duplicates = (int(number.replace(",", "")) for number in summary.groups())
    assert stored == count - done
    assert duplicates <= 2_000, "at most what was committed and not yet noted is looked at again"
    assert not (folder / "trackcore-import.json").exists()
