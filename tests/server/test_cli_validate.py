import gzip
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import Result
from trackcore_server.files.documents import Document, read_documents

Run = Callable[..., Result]
Lines = Callable[[Result], list[Any]]

GOOD: dict[str, Any] = {"type": "track", "userId": "user-1", "event": "Bought"}
NO_EVENT: dict[str, Any] = {"type": "track", "userId": "user-1"}
NO_ID: dict[str, Any] = {"type": "page", "name": "Home"}
NEEDS_ID = "a message needs a userId or an anonymousId"
BAD_TRAITS: dict[str, Any] = {"type": "identify", "userId": "user-1", "traits": "none"}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of JSON lines; text goes in as it is."""

    def write_lines(*documents: Any) -> Path:
        file = tmp_path / "messages.jsonl"
        file.write_text("".join(f"{d if isinstance(d, str) else json.dumps(d)}\n" for d in documents), encoding="utf-8")
        return file

    return write_lines


Write = Callable[..., Path]


class TestFiles:
    """`validate` reads a file as `import` does: plain or by gzip; UTF-16 is named once, truncation with the counts."""

    def test_a_compressed_file(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(gzip.compress(f"{json.dumps(GOOD)}\n{json.dumps(NO_ID)}\n".encode()))
        result = run("validate", tmp_path / "file")
        assert result.exit_code == 1
        assert result.stdout.startswith(f"{tmp_path / 'file'}:2: no_user_anon_id: ")
        assert result.stderr == "2 messages, 1 rejected, 0 warnings\n"

    def test_a_truncated_one(self, run: Run, tmp_path: Path) -> None:
        messages = [json.dumps({**GOOD, "properties": {"x": os.urandom(40).hex()}}) for _ in range(50)]
        (tmp_path / "file").write_bytes(gzip.compress("\n".join(messages).encode())[:-200])
        result = run("validate", tmp_path / "file")
        assert (result.exit_code, result.stdout) == (1, "")
        shown, summary = result.stderr.splitlines()
        assert shown == f"{tmp_path / 'file'}: the file is truncated: its gzip stream ends too early; {summary} so far"
        assert 0 < int(summary.split()[0]) < len(messages)

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
    @pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
    def test_another_unicode_encoding_is_named_once(
        self, run: Run, tmp_path: Path, encoding: str, *, packed: bool
    ) -> None:
        text = (json.dumps(GOOD) + "\r\n").encode(encoding) * 3
        (tmp_path / "file").write_bytes(gzip.compress(text) if packed else text)
        result = run("validate", tmp_path / "file")
        assert (result.exit_code, result.stdout) == (2, "")
        shown, summary = result.stderr.splitlines()
        assert shown.startswith(f"{tmp_path / 'file'}: the file is {encoding[:6].upper()}, and JSON is UTF-8")
        assert summary == "0 messages, 0 rejected, 0 warnings"


class TestTenMessagesOfWhichThreeAreBad:
    MESSAGES = (GOOD, GOOD, NO_EVENT, GOOD, NO_ID, GOOD, GOOD, GOOD, BAD_TRAITS, GOOD)

    def test_all_three_are_named_for_people(self, run: Run, write: Write) -> None:
        file = write(*self.MESSAGES)
        result = run("validate", file)
        assert result.exit_code == 1
        assert result.stdout.splitlines() == [
            f"{file}:3: event: event_not_defined: a track message needs 'event'",
            f"{file}:5: no_user_anon_id: a message needs a userId or an anonymousId",
            f"{file}:9: traits: traits_not_object: `traits` is an object, not a string",
        ]
        assert result.stderr == "10 messages, 3 rejected, 0 warnings\n"

    def test_all_three_are_named_for_programs(self, run: Run, write: Write, lines: Lines) -> None:
        file = write(*self.MESSAGES)
        result = run("validate", "--json", file)
        assert result.exit_code == 1
        found = [(r["file"], r["line"], r["path"], r["code"], r["severity"]) for r in lines(result)]
        assert found == [
            (str(file), 3, "event", "event_not_defined", "rejected"),
            (str(file), 5, "", "no_user_anon_id", "rejected"),
            (str(file), 9, "traits", "traits_not_object", "rejected"),
        ]

    def test_in_a_batch_their_places_are_reported(self, run: Run, write: Write) -> None:
        file = write({"batch": self.MESSAGES})
        assert [line.split(": ")[:2] for line in run("validate", file).stdout.splitlines()] == [
            [f"{file}:1", "batch[2].event"],
            [f"{file}:1", "batch[4]"],
            [f"{file}:1", "batch[8].traits"],
        ]

    def test_an_array_is_many_messages(self, run: Run, write: Write) -> None:
        file = write(json.dumps(self.MESSAGES, indent=2))
        result = run("validate", file)
        assert [line.split(": ")[:2] for line in result.stdout.splitlines()] == [
            [f"{file}:1", "[2].event"],
            [f"{file}:1", "[4]"],
            [f"{file}:1", "[8].traits"],
        ]
        assert result.stderr == "10 messages, 3 rejected, 0 warnings\n"

    def test_from_standard_input(self, run: Run) -> None:
        text = "\n".join(map(json.dumps, self.MESSAGES)).encode()
        assert "-:9: traits" in run("validate", "-", stdin=text).stdout


def test_good_messages_exit_0(run: Run, write: Write) -> None:
    result = run("validate", write(GOOD, "", "   ", {"batch": [GOOD]}))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "2 messages, 0 rejected, 0 warnings\n"


def test_warnings_exit_0(run: Run, write: Write, lines: Lines) -> None:
    file = write({"batch": [GOOD, {**GOOD, "userId": 7}, {**GOOD, "timestamp": "soon"}]})
    result = run("validate", file)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{file}:1: batch[1].userId: warning: id_from_number: the number was kept as '7'",
        f"{file}:1: batch[2].timestamp: warning: timestamp_unparsable: 'soon' is not a time",
    ]
    assert result.stderr == "3 messages, 0 rejected, 2 warnings\n"
    assert lines(run("validate", "--json", file))[0] == {
        "file": str(file),
        "line": 1,
        "index": 1,
        "path": "userId",
        "code": "id_from_number",
        "message": "the number was kept as '7'",
        "severity": "warning",
    }


def test_places_of_warnings_beside_rejected_messages(run: Run, write: Write, lines: Lines) -> None:
    warned = {**GOOD, "userId": 7}
    file = write({"batch": [NO_EVENT, warned, NO_EVENT, GOOD, warned]})
    found = [(record["index"], record["severity"]) for record in lines(run("validate", "--json", file))]
    assert found == [(0, "rejected"), (1, "warning"), (2, "rejected"), (4, "warning")]


def test_limits_are_reported(run: Run, write: Write, lines: Lines) -> None:
    large = {**GOOD, "properties": {"text": "x" * 40_000}}
    (record,) = lines(run("validate", "--json", write({"batch": [large]})))
    assert (record["code"], record["limit"], record["actual"]) == (
        "message_too_large",
        32_768,
        len(json.dumps(large)),
    )


def test_a_batch_of_too_many(run: Run, write: Write) -> None:
    result = run("validate", write({"batch": [GOOD] * 2_501}))
    assert "batch[2500]: too_many_messages" in result.stdout
    assert result.stderr == "2501 messages, 1 rejected, 0 warnings\n"
    result = run("validate", write([GOOD] * 2_501 + [NO_EVENT]))
    assert "[2501].event: event_not_defined" in result.stdout
    assert result.stderr == "2502 messages, 1 rejected, 0 warnings\n"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('{"type": "track"', "invalid_json"),
        ('{"type": NaN}', "invalid_json"),
        ("5", "body_not_object"),
        ("[]", "body_not_object"),
        ('{"batch": {}}', "batch_not_array"),
        ('{"batch": null}', "batch_not_array"),
        ('{"batch": [5]}', "message_not_object"),
        ('{"userId": "user-1"}', "no_type"),
        ('{"type": "buy", "userId": "user-1"}', "unknown_type"),
        ("[" * 100_000, "invalid_json"),
        ('{"batch": [], "context": 5}', None),
        ('"batch"', "body_not_object"),
    ],
)
def test_results_for_a_line_among_others(run: Run, write: Write, lines: Lines, line: str, code: str | None) -> None:
    found = lines(run("validate", "--json", write(GOOD, line, GOOD)))
    assert [(record["line"], record["code"]) for record in found] == ([] if code is None else [(2, code)])


def test_a_type_for_messages_without_one(run: Run, write: Write) -> None:
    file = write({"userId": "user-1", "event": "Bought"}, {"userId": "user-1"})
    assert run("validate", file).stdout.count("no_type") == 2
    assert run("validate", "--type", "identify", file).exit_code == 0
    assert run("validate", "--type", "track", file).stdout == (
        f"{file}:2: event: event_not_defined: a track message needs 'event'\n"
    )


def test_write_keys_are_no_finding_unless_they_differ(run: Run, write: Write) -> None:
    keyed = {**GOOD, "writeKey": "a"}
    assert run("validate", write(keyed, {"batch": [keyed, keyed], "writeKey": "a"})).stdout == ""
    assert "write_key_mismatch" in run("validate", write({"batch": [keyed], "writeKey": "b"})).stdout


def test_several_files_and_one_that_is_not_there(run: Run, write: Write, tmp_path: Path) -> None:
    file = write(NO_EVENT)
    result = run("validate", tmp_path / "none", file, tmp_path)
    assert result.exit_code == 2
    assert "event_not_defined" in result.stdout
    assert result.stderr.splitlines() == [
        f"{tmp_path / 'none'}: No such file or directory",
        f"{tmp_path}: Is a directory",
        "1 message, 1 rejected, 0 warnings",
    ]
    assert run("validate").exit_code == 2


def test_text_out_of_a_message_cannot_act_on_the_terminal(run: Run, write: Write) -> None:
    result = run("validate", write({**GOOD, "type": "\x1b[2J\u009b"}))
    assert all(line.isprintable() for line in result.stdout.splitlines())


class TestFormats:
    """For a terminal, for programs, as annotations of GitHub Actions, and as JUnit's XML for other CI servers."""

    MESSAGES = (GOOD, NO_EVENT, {**GOOD, "userId": 7}, {"batch": [GOOD, NO_ID]})

    def test_json_has_a_short_form(self, run: Run, write: Write) -> None:
        file = write(*self.MESSAGES)
        assert run("validate", "--json", file).stdout == run("validate", "--format", "json", file).stdout

    def test_text_is_the_default(self, run: Run, write: Write) -> None:
        file = write(*self.MESSAGES)
        assert run("validate", file).stdout == run("validate", "--format", "text", file).stdout

    def test_annotations(self, run: Run, write: Write, tmp_path: Path) -> None:
        result = run("validate", "--format", "github", write(*self.MESSAGES), tmp_path / "none")
        assert result.exit_code == 2
        assert result.stdout.replace(str(tmp_path), "").splitlines() == [
            "::error file=/messages.jsonl,line=2,title=event_not_defined::event: a track message needs 'event'",
            "::warning file=/messages.jsonl,line=3,title=id_from_number::userId: the number was kept as '7'",
            f"::error file=/messages.jsonl,line=4,title=no_user_anon_id::batch[1]: {NEEDS_ID}",
            "::error file=/none::No such file or directory",
        ]

    def test_an_annotation_of_standard_input_names_no_file(self, run: Run) -> None:
        result = run("validate", "--format", "github", "-", stdin=json.dumps(NO_ID).encode())
        assert result.stdout.startswith("::error line=1,title=no_user_anon_id::a message needs ")

    def test_nothing_in_a_message_or_a_name_can_be_a_command(self, run: Run, tmp_path: Path) -> None:
        """https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts, `escapeData`, `escapeProperty`"""
        file = tmp_path / "a,b:100%.jsonl"
        file.write_text(json.dumps({**GOOD, "type": "\n::error::%0A\r"}))
        (line,) = run("validate", "--format", "github", file).stdout.splitlines()
        assert line.startswith(f"::error file={tmp_path}/a%2Cb%3A100%25.jsonl,line=1,title=unknown_type::")
        assert "%250A" in line

    def test_junit(self, run: Run, write: Write, tmp_path: Path) -> None:
        result = run("validate", "--format", "junit", write(*self.MESSAGES), tmp_path / "none")
        assert result.exit_code == 2
        suites = ET.fromstring(result.stdout_bytes)  # noqa: S314 - our own
        assert suites.attrib == {"name": "trackcore validate", "tests": "5", "failures": "2", "errors": "1"}
        read, missing = suites
        assert read.attrib == {"name": str(tmp_path / "messages.jsonl"), "tests": "3", "failures": "2", "errors": "0"}
        assert [case.attrib["name"] for case in read.iter("testcase")] == ["3 accepted", "line 2", "line 4, message 1"]
        assert [failure.attrib["type"] for failure in read.iter("failure")] == ["event_not_defined", "no_user_anon_id"]
        assert (read.findtext("system-out") or "").endswith(
            ":3: userId: warning: id_from_number: the number was kept as '7'"
        )
        assert [error.attrib["message"] for error in missing.iter("error")] == ["No such file or directory"]

    def test_junit_of_good_messages(self, run: Run, write: Write) -> None:
        result = run("validate", "--format", "junit", write(GOOD, GOOD))
        suites = ET.fromstring(result.stdout_bytes)  # noqa: S314 - our own
        assert (result.exit_code, suites.attrib["tests"], suites.attrib["failures"]) == (0, "1", "0")

    def test_junit_of_a_truncated_file(self, run: Run, tmp_path: Path) -> None:
        messages = [json.dumps({**GOOD, "properties": {"x": os.urandom(40).hex()}}) for _ in range(50)]
        (tmp_path / "file").write_bytes(gzip.compress("\n".join(messages).encode())[:-200])
        result = run("validate", "--format", "junit", tmp_path / "file")
        assert result.exit_code == 1
        assert "its gzip stream ends too early" in result.stdout

    def test_what_is_no_character_of_xml_is_escaped(self, run: Run, write: Write) -> None:
        result = run("validate", "--format", "junit", write({**GOOD, "type": "\x00\x1b\ufffe<&>"}))
        assert "unknown_type" in result.stdout
        ET.fromstring(result.stdout_bytes)  # noqa: S314 - our own


class TestDocuments:
    def read(self, text: bytes) -> list[Document]:
        return list(read_documents(io.BytesIO(text)))

    def test_lines(self) -> None:
        assert self.read(b'\n{"a": 1}\r\n\n{"b"\n5') == [
            Document(line=2, text=b'{"a": 1}'),
            Document(line=4, text=b'{"b"'),
            Document(line=5, text=b"5"),
        ]

    def test_one_line_is_the_only_document(self) -> None:
        assert self.read(b"\n[1]\n\n") == [Document(line=2, text=b"[1]", is_only=True)]

    def test_one_document_over_many_lines(self) -> None:
        assert self.read(b'\n{\n"a": 1\n}\n') == [Document(line=2, text=b'{\n"a": 1\n}', is_only=True)]

    def test_a_bad_first_line_is_still_a_line(self) -> None:
        assert self.read(b'{"a": \n{"b": 1}\n\n{"c": 1}') == [
            Document(line=1, text=b'{"a":'),
            Document(line=2, text=b'{"b": 1}'),
            Document(line=4, text=b'{"c": 1}'),
        ]

    def test_nothing(self) -> None:
        assert self.read(b"") == self.read(b"\n \n") == []

    def test_lines_are_read_one_by_one(self) -> None:
        """A reader that takes one document has not read the file."""
        stream = io.BytesIO(b'{"a": 1}\n' * 1_000)
        next(read_documents(stream))
        assert stream.tell() == 2 * len(b'{"a": 1}\n')
