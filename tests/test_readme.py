"""The README is correct: its code runs, its commands parse, its tables match those of the code."""

from __future__ import annotations

import re
import shlex
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from http import HTTPStatus
from itertools import chain
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
from adapter_helpers import KEY, serve, track
from click.testing import CliRunner
from markdown_it import MarkdownIt
from markdown_it.token import Token
from patience import PATIENCE
from sdk.report import END, SDKS, START
from trackcore_delivery import DeliveredDestination, Secret
from trackcore_http import responses
from trackcore_http.routes import ROUTES, Action, find_route
from trackcore_server import (
    Configuration,
    KafkaLogSettings,
    LogSettings,
    ServerSettings,
    create_collector,
    parse_configuration,
)
from trackcore_server.cli._main import main
from trackcore_server.config.configuration import DebuggerSettings, DeliverySettings, rebase
from trackcore_server.config.debugger_token import TOKEN_CHARS, read_debugger_token
from trackcore_server.config.kinds import KINDS
from trackcore_server.delivery.service import check_destinations
from trackcore_server.hosting import rejections
from trackcore_sqlite import SqliteLog, SqliteSink

from trackcore import (
    DEFAULT_LIMITS,
    Collector,
    DecisionReason,
    Destination,
    InvalidRequest,
    Limits,
    MemorySink,
    Origin,
    Reason,
    Source,
    WarningCode,
    WriteKey,
)
from trackcore.explanation.explain import CONFIGURATION_CHANGED
from trackcore.text.jsontext import encode_json, parse_value

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text("utf-8")
SOURCE = '[[sources]]\nname = "website"\nwrite_keys = ["abc123"]\n'
TOKEN = "x" * TOKEN_CHARS


@attrs.frozen
class Fence:
    """A block of code: its language, the heading above it, and its text."""

    language: str
    heading: str
    text: str


@attrs.frozen
class Table:
    """A table: the heading above it, and its rows below the titles, each cell as Markdown."""

    heading: str
    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def _with_headings(tokens: Sequence[Token]) -> Iterator[tuple[str, int, Token]]:
    """Yield each token with the heading above it and its place."""
    heading = ""
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = tokens[place + 1].content
        yield heading, place, token


TOKENS = MarkdownIt("commonmark").enable("table").parse(TEXT)
HEADINGS = [TOKENS[place + 1].content for _, place, token in _with_headings(TOKENS) if token.type == "heading_open"]
FENCES = [
    Fence(token.info, heading, token.content) for heading, _, token in _with_headings(TOKENS) if token.type == "fence"
]


def _tables() -> Iterator[Table]:
    for heading, place, token in _with_headings(TOKENS):
        if token.type == "table_open":
            rows: list[list[str]] = []
            for inner in TOKENS[place:]:
                if inner.type == "table_close":
                    break
                if inner.type == "tr_open":
                    rows.append([])
                elif inner.type == "inline":
                    rows[-1].append(inner.content)
            titles, *body = map(tuple, rows)
            yield Table(heading, titles, tuple(body))


TABLES = list(_tables())


def fences(language: str) -> list[Any]:
    """Return the blocks of a language as parameters, each named for its heading."""
    found = [fence for fence in FENCES if fence.language == language]
    return [pytest.param(fence.text, id=f"{place} {fence.heading}") for place, fence in enumerate(found)]


def fence(language: str, heading: str) -> str:
    """Return the only block of a language under a heading."""
    (found,) = [fence.text for fence in FENCES if (fence.language, fence.heading) == (language, heading)]
    return found


def as_whole(text: str) -> str:
    """Return a configuration that a server would start with: add a source if it has none."""
    return text if "[[sources]]" in text else SOURCE + text


def tables(heading: str) -> list[Table]:
    """Return the tables under a heading."""
    found = [table for table in TABLES if table.heading == heading]
    assert found, f"no table under {heading!r}"
    return found


def code_in(cell: str) -> list[str]:
    """Return the code spans of a cell."""
    return re.findall(r"`([^`]+)`", cell)


class TestBlocks:
    def test_there_are_some(self) -> None:
        assert {fence.language for fence in FENCES} == {"python", "sh", "toml", "json", "jsonl", "text"}

    @pytest.mark.parametrize("code", fences("python"))
    def test_python_runs(self, code: str, tmp_path: Path) -> None:
        """In its own interpreter and an empty folder, with warnings as errors."""
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, "")

    def test_python_passes_a_strict_type_checker(self, tmp_path: Path) -> None:
        """One exception, which is from Flask's documentation: it assigns to `app.wsgi_app`, a method."""
        for number, code in enumerate(fence.text for fence in FENCES if fence.language == "python"):
            (tmp_path / f"block_{number}.py").write_text(code)
        options = ["--strict", "--disable-error-code=method-assign", f"--cache-dir={tmp_path}", "--config-file="]
        ran = subprocess.run(
            [sys.executable, "-m", "mypy", *options, "."], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout

    def test_delivery_as_a_library_needs_no_server(self) -> None:
        (code,) = (fence.text for fence in FENCES if "trackcore_delivery import" in fence.text)
        assert "trackcore_server" not in code

    @pytest.mark.parametrize("text", fences("toml"))
    def test_toml_is_a_configuration(self, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server would start with it if the environment had its variables."""
        for name in re.findall(r'"env:(\w+)"', text):
            monkeypatch.setenv(name, TOKEN)
        configuration = rebase(parse_configuration(as_whole(text)), tmp_path)
        check_destinations(configuration)
        assert read_debugger_token(configuration) in {TOKEN, None}
        create_collector(configuration)

    @pytest.mark.parametrize("text", fences("json"))
    def test_json_is_json(self, text: str) -> None:
        assert isinstance(parse_value(text.encode()), dict)

    def test_the_validated_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The output shown for `trackcore validate` is its output for the file shown."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "messages.jsonl").write_text(fence("jsonl", "Check files"))
        result = CliRunner().invoke(main, ["validate", "messages.jsonl"])
        assert result.exit_code == 1
        assert result.stdout + result.stderr == fence("text", "Check files")

    def test_the_partial_answer(self) -> None:
        body = {"batch": [track(), {"type": "track", "event": "E"}]}
        answer = serve(MemorySink()).post("/v1/batch", body, headers=KEY)
        assert (answer.status, answer.json) == (200, parse_value(fence("json", "The API in eight requests").encode()))

    def test_the_answer_to_malformed_json(self) -> None:
        answer = serve(MemorySink()).post("/v1/batch", b'{"batch": [,]}', headers=KEY)
        assert (answer.status, answer.json) == (400, parse_value(fence("json", "Error answers").encode()))


class TestLog:
    """The section on the log, tried on one that holds the message of the example."""

    EXAMPLE = parse_value(fence("json", "The log").encode())

    @pytest.fixture(autouse=True)
    def _log(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "trackcore.toml").write_text(fence("toml", "Configuration"))
        configuration = parse_configuration(fence("toml", "Configuration"))
        stored = self.EXAMPLE["message"]
        collector = Collector(
            sources=configuration.sources,
            destinations=configuration.destinations,
            sink=SqliteSink(tmp_path / "trackcore.db"),
            clock=lambda: datetime.fromisoformat(stored["receivedAt"]),
            new_message_id=lambda: stored["messageId"],
        )
        sent = {name: stored[name] for name in ("event", "integrations", "sentAt")}
        sent |= {"timestamp": stored["originalTimestamp"], "userId": int(stored["userId"])}
        collector.receive(encode_json(sent), endpoint="track", origin=Origin(header_key=WriteKey("abc123")))
        yield
        collector.sink.close()  # type: ignore[attr-defined]

    def test_the_line_that_is_shown(self) -> None:
        result = CliRunner().invoke(main, ["events", "--explain"])
        assert parse_value(result.stdout.encode()) == self.EXAMPLE

    def test_every_because_is_explained(self) -> None:
        for because in (*DecisionReason, CONFIGURATION_CHANGED):
            assert f"`{because}`" in TEXT

    def test_its_tables(self, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / "trackcore.db")) as log:
            names = log.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
            assert {f"`{re.sub('[0-9]$', '*', name)}`" for (name,) in names} == {
                row[0] for row in tables("The log")[0].rows
            }

    def test_its_queries(self, tmp_path: Path) -> None:
        """The query to read it works, and the one to copy it creates a log, while the server has it open."""
        lines = [line for found in FENCES for line in found.text.splitlines() if line.startswith("sqlite3 ")]
        read, copy = [shlex.split(line)[-1] for line in lines]
        with closing(sqlite3.connect(tmp_path / "trackcore.db", isolation_level=None)) as log:
            ((payload,),) = log.execute(read.replace("100", "0")).fetchall()
            log.execute(copy)
        assert parse_value(payload.encode()) == self.EXAMPLE["message"]
        (message,) = SqliteLog(tmp_path / "backup.db").messages()
        assert message.message == self.EXAMPLE["message"]


def commands() -> Iterator[Any]:
    """Yield the words of each `trackcore` command line, in a block or within the text."""
    lines = chain.from_iterable(fence.text.splitlines() for fence in FENCES if fence.language == "sh")
    inline = [child.content for token in TOKENS for child in token.children or () if child.type == "code_inline"]
    for line in (*lines, *inline):
        if "trackcore" not in line:
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;>")
        lexer.whitespace_split = True
        words = list(lexer)
        for place, word in enumerate(words):
            if word in {"trackcore", ".venv/bin/trackcore"} and len(words) > place + 1:
                rest = words[place + 1 :]
                end = next((index for index, word in enumerate(rest) if set(word) <= set("|&;>")), len(rest))
                yield pytest.param(rest[:end], id=" ".join(rest[:end]))


@pytest.mark.parametrize("words", list(commands()))
def test_commands_exist_with_their_options(words: list[str]) -> None:
    name, *arguments = words
    assert isinstance(main, click.Group)
    command = main.commands[name]
    if arguments or name not in {"explain", "import", "prune", "validate"}:  # within the text they may stand alone
        command.make_context(name, arguments)


class TestLinks:
    TARGETS = tuple(
        str(child.attrGet("href")) for token in TOKENS for child in token.children or () if child.type == "link_open"
    )

    def anchors(self) -> Iterable[str]:
        """Yield the anchors of the headings as GitHub builds them."""
        for heading in HEADINGS:
            yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")

    def test_anchors_are_there(self) -> None:
        wanted = {target[1:] for target in self.TARGETS if target.startswith("#")}
        assert wanted
        assert wanted - set(self.anchors()) == set()

    def test_files_are_there(self) -> None:
        files = [target for target in self.TARGETS if not re.match(r"#|https?://", target)]
        assert files
        assert [file for file in files if not (ROOT / file).exists()] == []


def _expanded(path: str) -> list[str]:
    """Expand one pair of braces: `/v1/{a,b}` is `/v1/a` and `/v1/b`."""
    head, brace, rest = path.partition("{")
    if not brace:
        return [path]
    names, _, tail = rest.partition("}")
    return [f"{head}{name}{tail}" for name in names.split(",")]


class TestTables:
    def test_routes(self) -> None:
        """All routes, with their methods, and no others."""
        (table,) = tables("Routes")
        listed = {path: row[1] for row in table.rows for cell in code_in(row[0]) for path in _expanded(cell)}
        settings = listed.pop("/v1/projects/<writeKey>/settings")
        route = find_route("/v1/projects/abc123/settings")
        assert route is not None
        assert (route.action, route.methods[0]) == (Action.SETTINGS, settings)
        assert listed == {path: route.methods[0] for path, route in ROUTES.items()}

    def test_limits(self) -> None:
        (table,) = tables("Limits")
        listed = {code_in(row[0])[0]: int(row[1].replace(",", "")) for row in table.rows}
        assert listed == attrs.asdict(DEFAULT_LIMITS)

    def test_error_answers(self) -> None:
        (table,) = tables("Error answers")
        failures = [value for value in vars(responses).values() if isinstance(value, responses.Failure)]
        failures += responses.UNAVAILABLE.values()
        listed = {(row[0], *code_in(row[1]), row[2]) for row in table.rows if row[0] != "400"}
        assert listed == {(str(failure.status.value), failure.code, failure.message) for failure in failures}

    def test_the_headers_of_an_answer_that_asks_for_patience(self) -> None:
        """429 included; nothing contradicts it."""
        (carried,) = re.findall(r"((?:\d{3}|and|[,\s])+)carry\s(`[\w-]+`) and (`[\w-]+`)", TEXT)
        answers = [responses.retry_later(failure, 5) for failure in responses.UNAVAILABLE.values()]
        assert {int(status) for status in re.findall(r"\d+", carried[0])} == {answer.status for answer in answers}
        for answer in answers:
            assert [f"`{name}`" for name, _ in answer.headers] == list(carried[1:])
        assert not re.search(r"(without|no) `(Retry-After|X-RateLimit-Reset)`", TEXT)

    def test_the_answers_of_the_worker(self) -> None:
        listed = {code: int(status) for code, status in re.findall(r"`(\w+)`\s\((\d{3})\)", TEXT)}
        found = [each for each in vars(rejections).values() if isinstance(each, rejections.Rejection)]
        ours = {rejection.code: rejection.status for rejection in found}
        assert listed | {"internal_error": HTTPStatus.INTERNAL_SERVER_ERROR} == ours

    def test_reason_codes(self) -> None:
        """All of them; those of a whole request apart from those of one message, as in `errors.py`."""
        of_requests, of_messages = tables("Reason codes")
        listed = [*of_requests.rows, *of_messages.rows]
        assert listed == [(f"`{reason}`", reason.sentence) for reason in Reason]
        assert of_messages.rows[0][0] == f"`{Reason.MESSAGE_TOO_LARGE}`"

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"batch": 1}', b" " * 524_289])
    def test_the_codes_of_requests(self, body: bytes) -> None:
        collector = serve(MemorySink()).app.collector
        with pytest.raises(InvalidRequest) as caught:
            collector.receive(body)
        assert f"`{caught.value.reason}`" in {row[0] for row in tables("Reason codes")[0].rows}

    def test_warnings(self) -> None:
        (table,) = tables("Warnings")
        assert list(table.rows) == [(f"`{warned}`", warned.sentence) for warned in WarningCode]

    def test_every_sdk_has_a_row(self) -> None:
        """`poe sdk` checks the content of the row against the live tests."""
        assert TEXT.index(START) < TEXT.index(END)
        (table,) = tables("SDKs")
        listed = [(row[0], row[1]) for row in table.rows]
        assert listed == [(f"{sdk.title}: `{sdk.package}`", number) for sdk in SDKS for number in sdk.versions]


OBSOLETE = {"threads"}
"""Settings that are accepted, and have no effect any more."""


class TestConfiguration:
    DOCUMENT = tomllib.loads(fence("toml", "Configuration"))

    @pytest.mark.parametrize(
        ("tables", "kind"),
        [
            ([DOCUMENT], Configuration),
            (DOCUMENT["sources"], Source),
            (DOCUMENT["destinations"], Destination),
            ([DOCUMENT["log"]], LogSettings),
            ([DOCUMENT["server"]], ServerSettings),
            ([DOCUMENT["delivery"]], DeliverySettings),
            ([DOCUMENT["debugger"]], DebuggerSettings),
            ([DOCUMENT["limits"]], Limits),
        ],
    )
    def test_it_has_every_key(self, tables: list[dict[str, Any]], kind: type) -> None:
        assert set().union(*tables) | OBSOLETE == {field.name for field in attrs.fields(kind)} | OBSOLETE

    def test_it_shows_the_defaults(self) -> None:
        configuration = parse_configuration(fence("toml", "Configuration"))
        assert isinstance(configuration.log, LogSettings)
        assert configuration.delivery.path == attrs.evolve(configuration, delivery=DeliverySettings()).delivery_path
        shown = attrs.evolve(
            configuration,
            sources=(),
            destinations=(),
            log=attrs.evolve(configuration.log, keep=None),
            delivery=attrs.evolve(configuration.delivery, path=None),
            debugger=DebuggerSettings(),
        )
        assert shown == Configuration()

    def test_the_length_of_a_token(self) -> None:
        assert f"a token of {TOKEN_CHARS} characters" in TEXT


class TestKafka:
    HEADING = "Past one machine: Kafka"
    DOCUMENT = tomllib.loads(fence("toml", HEADING))

    def test_it_has_every_key(self) -> None:
        assert self.DOCUMENT["log"].keys() == {field.name for field in attrs.fields(KafkaLogSettings)}

    def test_it_shows_the_defaults(self) -> None:
        log = parse_configuration(as_whole(fence("toml", self.HEADING))).log
        assert isinstance(log, KafkaLogSettings)
        bare = KafkaLogSettings(bootstrap_servers=log.bootstrap_servers)
        assert attrs.evolve(log, retention=None, client=bare.client) == bare


class TestDestinations:
    """The table of settings has every setting of every kind, with its default."""

    HEADING = "Destinations"
    ROWS = tables(HEADING)[0].rows

    def settings(self, kind: str) -> dict[str, str]:
        """Return the settings of a kind, each with its default in the table."""
        return {code_in(row[0])[0]: row[2] for row in self.ROWS if row[1] == "all" or kind in row[1].split(", ")}

    def test_the_example_has_every_kind(self) -> None:
        document = tomllib.loads(fence("toml", self.HEADING))
        assert {destination["kind"] for destination in document["destinations"]} == KINDS.keys()

    def test_kinds(self) -> None:
        assert {name for row in self.ROWS for name in row[1].split(", ")} == {"all", *KINDS}

    @pytest.mark.parametrize("kind", KINDS)
    def test_settings(self, kind: str) -> None:
        assert self.settings(kind).keys() == {field.name for field in attrs.fields(KINDS[kind])}

    @pytest.mark.parametrize("kind", KINDS)
    def test_defaults(self, kind: str) -> None:
        """Writing a default down changes nothing; a `required` setting has none, and `none` means none."""
        listed = self.settings(kind)
        required = [field.name for field in attrs.fields(KINDS[kind]) if field.default is attrs.NOTHING]
        assert required == [name for name, default in listed.items() if default == "required"]
        bare = self.destination(kind, required)
        for name, default in listed.items():
            if default == "none":
                assert not getattr(bare, name)
            elif default != "required":
                assert self.destination(kind, required, f"{name} = {code_in(default)[0]}") == bare

    def destination(self, kind: str, required: Sequence[str], *lines: str) -> DeliveredDestination:
        """Read a destination with the required settings of a kind, and further lines."""
        values = {"url": "https://example.com", "bootstrap_servers": "example.com:9092"}
        required_lines = [f'{name} = "{values.get(name, "some-name")}"' for name in required]
        text = "\n".join([SOURCE, "[[destinations]]", f'kind = "{kind}"', *required_lines, *lines])
        (destination,) = parse_configuration(text).delivered
        return destination

    def test_secrets_are_named(self) -> None:
        configuration = parse_configuration(as_whole(fence("toml", self.HEADING)))
        secrets = [secret for item in configuration.delivered for _, secret in item.secrets()]
        assert secrets
        assert all(isinstance(secret, Secret) and secret.is_named for secret in secrets)


class TestContributing:
    def test_the_places_that_it_names_exist(self) -> None:
        text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
        (section,) = re.findall(r"^## Where is \.\.\.\?$(.*?)^## ", text, re.MULTILINE | re.DOTALL)
        answers = [code_in(line.split("|")[2]) for line in section.splitlines() if line.startswith("| Where")]
        assert len(answers) == 8
        assert [path for found in answers for path in found if "/" in path and not (ROOT / path).is_file()] == []
