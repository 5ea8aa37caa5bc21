"""Reprocessing a message that an import rejected: the result is that of importing its file again, or nothing."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from trackcore_server.cli._main import main
from trackcore_server.files.documents import Document
from trackcore_server.files.importer import Importer, Occurrences
from trackcore_server.inspection.reprocess import Reprocessed, Reprocessor
from trackcore_sqlite import SqliteLog

from trackcore import (
    Call,
    Collector,
    Destination,
    Envelope,
    Limits,
    MemorySink,
    Resolver,
    Source,
    StoredMessage,
    StoredRejected,
)

CONFIGURATION = """
[[sources]]
name = "website"
write_keys = ["k"]
[[destinations]]
name = "CRM"
[[destinations]]
name = "Recent"
max_age = "5d"
[limits]
{limits}
"""
LONG_ID = "a message id of more than 20 characters"
MESSAGE = {
    "type": "track",
    "event": "E",
    "userId": "u",
    "messageId": LONG_ID,
    "timestamp": "2019-05-06T07:08:09.010Z",
}
BATCH = {
    "batch": [MESSAGE],
    "context": {"app": {"name": "a"}, "locale": "\ud800"},
    "integrations": {"All": False},
    "sentAt": "2019-05-06T07:09:00.000Z",
}


@pytest.fixture(name="folder", autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TRACKCORE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def limit(text: str = "") -> None:
    Path("trackcore.toml").write_text(CONFIGURATION.format(limits=text))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def import_file(document: Any, *arguments: str) -> Result:
    Path("file").write_text(json.dumps(document))
    return run("import", *arguments, "file")


def retry() -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("rejected", "--retry").stdout.splitlines()]


def stored() -> list[StoredMessage]:
    return list(SqliteLog("trackcore.db").messages())


@pytest.mark.parametrize(
    ("document", "arguments"),
    [
        (BATCH, ()),
        (MESSAGE, ()),
        ([{**MESSAGE, "sentAt": "2019-05-06T07:09:00.000Z"}], ()),
        ({**MESSAGE, "type": None}, ("--type", "page")),
        ([{**MESSAGE, "type": "x"}], ("--type", "page")),
        ({**MESSAGE, "timestamp": None, "receivedAt": "2015"}, ()),
        ({**BATCH, "writeKey": "k"}, ()),
    ],
)
def test_after_a_limit_was_raised(document: Any, arguments: tuple[str, ...]) -> None:
    """Its batch, its times and its destinations are those that the import would have given it."""
    limit("message_id_chars = 20")
    assert import_file(document, *arguments).exit_code == 1
    limit()
    (repair,) = retry()
    assert (repair["outcome"], repair["stored"]) == ("repaired", 1), repair
    (repaired,) = stored()
    (repair,) = retry()
    assert (repair["stored"], repair["duplicates"]) == (0, 1)

    Path("trackcore.db").unlink()
    assert import_file(document, *arguments).exit_code == 0
    (imported,) = stored()
    assert {**repaired.message, "receivedAt": None} == {**imported.message, "receivedAt": None}
    assert repaired.destinations == imported.destinations
    assert (repaired.inherited, repaired.found_by) == (imported.inherited, imported.found_by)
    assert [warning["code"] for warning in repaired.warnings] == [
        *(warning["code"] for warning in imported.warnings),
        "repaired",
    ]


@pytest.mark.parametrize(
    ("times", "code"),
    [
        ({}, "historical_time_missing"),
        ({"timestamp": "last tuesday"}, "historical_time_unparsable"),
        ({"receivedAt": "x"}, "historical_time_unparsable"),
    ],
)
def test_history_without_a_time_is_not_dated_today(times: dict[str, str], code: str) -> None:
    """It was rejected for its id, which is looked at first."""
    limit("message_id_chars = 20")
    import_file({**MESSAGE, "timestamp": None, **times})
    limit()
    (repair,) = retry()
    assert (repair["outcome"], repair["code"]) == ("refused", code)
    assert not stored()


@pytest.mark.parametrize(
    "document",
    [
        {**MESSAGE, "messageId": "m", "batch": 5},
        {**BATCH, "batch": {"0": MESSAGE}},
        {**MESSAGE, "messageId": "m", "text": "x" * 600_000},
        {"batch": [{}] * 300, "context": {"text": "x" * 40_000}},
    ],
    ids=["no batch", "not an array", "cut", "large batch fields"],
)
def test_what_was_not_kept_whole_must_be_imported_again(document: Any) -> None:
    limit()
    import_file(document)
    limit("message_bytes = 1000000\nrequest_bytes = 1000000\nshared_bytes = 100000000")
    assert {(repair["outcome"], repair["code"]) for repair in retry()} == {("refused", "import_only")}
    assert not stored()


def test_a_list_in_a_batch_is_no_message() -> None:
    limit()
    import_file({"batch": [[{**MESSAGE, "messageId": "m"}]]})
    (repair,) = retry()
    assert (repair["outcome"], repair["code"]) == ("refused", "message_not_object")


def test_a_source_that_is_gone() -> None:
    limit("message_id_chars = 20")
    import_file(MESSAGE)
    Path("trackcore.toml").write_text('[[sources]]\nname = "another"\nwrite_keys = ["k"]\n')
    (repair,) = retry()
    assert (repair["outcome"], repair["code"]) == ("refused", "unknown_source")


def test_the_size_that_is_reported_is_that_of_the_message() -> None:
    """And not of the fields that are kept with it, such as the id that was made for it."""
    limit("message_bytes = 10")
    import_file({"batch": [{"a": "bcd"}]})
    explanation = json.loads(run("explain", "--format", "json", "--rejected", "1").stdout)
    assert explanation["actual"] == len('{"a": "bcd"}')


# The law


SMALL = Limits(message_bytes=300, message_id_chars=60, depth=3)
LARGE = Limits()
SOURCE = Source(name="website")
DESTINATIONS = [Destination(name="CRM"), Destination(name="Mixpanel")]

sizes = st.sampled_from(["", "x" * 100, "x" * 400])
deep: st.SearchStrategy[Any] = st.sampled_from([0, [[[[0]]]], {"a": {"b": {"c": {}}}}])
messages = st.fixed_dictionaries(
    {
        "userId": st.just("u"),
        "event": st.just("E"),
        "text": sizes,
        "type": st.sampled_from(["track", "page", "track", "x", None]),
        "timestamp": st.sampled_from(["2019-05-06T07:08:09Z", "2019-05-06", "last tuesday", None]),
    },
    optional={
        "time_stamp": st.just("2018-05-06T07:08:09Z"),
        "receivedAt": st.just("2015"),
        "sentAt": st.just("2019-05-06T07:09:00Z"),
        "long": st.booleans(),
        "properties": deep.map(lambda value: {"deep": value}),
        "context": st.sampled_from([{"own": 1}, {"text": "\ud800"}, {"app": {"own": 1}}]),
        "integrations": st.sampled_from([{"CRM": True}, {"All": False}]),
        "writeKey": st.just("another"),
    },
)
shared: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "context": st.fixed_dictionaries({"app": deep, "text": sizes}) | st.just([]) | st.just({"text": "\ud800"}),
        "integrations": st.sampled_from([{"All": False}, {"Mixpanel": False}, None]),
        "sentAt": st.just("2019-05-06T07:10:00Z"),
    },
)
spaces = st.sampled_from([None, 40])


@st.composite
def files(draw: st.DrawFn) -> list[Document]:
    """Make a file, some of whose messages differ only in spaces; two have the same id only by content."""
    few = draw(st.lists(messages, min_size=1, max_size=4))
    found: list[dict[str, Any]] = [dict(draw(st.sampled_from(few))) for _ in range(draw(st.integers(1, 8)))]
    for number, message in enumerate(found):
        is_long = message.pop("long", None)
        if is_long is not None:
            message["messageId"] = f"m{number}" + ("x" * 70 if is_long else "")
    documents: list[Document] = []
    while found:
        kind = draw(st.sampled_from(["single", "batch"]))
        taken = found[: 1 if kind == "single" else 3]
        del found[: len(taken)]
        value = taken[0] if kind == "single" else {"batch": taken, **draw(shared)}
        text = json.dumps(value, indent=draw(spaces)).encode()
        documents.append(Document(line=len(documents) + 1, text=text))
    return documents


@st.composite
def arrays(draw: st.DrawFn) -> list[Document]:
    found = draw(st.lists(messages, min_size=1, max_size=4))
    for message in found:
        message.pop("long", None)
    return [Document(line=1, text=json.dumps(found).encode(), is_only=True)]


def imported(documents: Iterable[Document], call: Call | None, limits: Limits) -> MemorySink:
    sink = MemorySink()
    importer = Importer(source=SOURCE, resolver=Resolver(DESTINATIONS), sink=sink, limits=limits, call=call)
    importer.store(list(documents), Occurrences())
    return sink


def repaired(sink: MemorySink, limits: Limits) -> list[Reprocessed]:
    collector = Collector(
        sources=[SOURCE],
        destinations=DESTINATIONS,
        sink=sink,
        clock=lambda: datetime(2026, 1, 31, tzinfo=UTC),
        new_message_id=_no_id,
        limits=limits,
    )
    records = [
        StoredRejected(seq=seq, **attrs.asdict(record, recurse=False)) for seq, record in enumerate(sink.rejected, 1)
    ]
    return [Reprocessor(collector).repair(record) for record in records]


def _no_id() -> str:
    raise AssertionError("an import makes its own ids")


def contents(envelopes: Iterable[Envelope]) -> dict[str, Any]:
    return {envelope.message_id: _content(envelope) for envelope in envelopes}


def _content(envelope: Envelope) -> Any:
    warnings = [warning for warning in envelope.warnings if warning.code != "repaired"]
    message = {**json.loads(envelope.payload), "receivedAt": None}
    return envelope.call, message, envelope.destinations, envelope.inherited, envelope.found_by, warnings


NAMELESS = {**MESSAGE, "messageId": None}


@pytest.mark.parametrize("context", [{"text": "x" * 400}, {"a": {"b": {"c": {"d": 1}}}}, {"\ud800": "x" * 400}])
def test_the_id_of_a_message_is_the_same_where_its_batch_was_too_large(context: dict[str, Any]) -> None:
    """It depends on the fields of the batch too, even if those are not allowed."""
    batches = [{"batch": [NAMELESS] * 2, **fields} for fields in ({"context": context}, {}, {"context": context})]
    documents = [Document(line=1, text=json.dumps(batch).encode()) for batch in batches]
    sink = imported(documents, None, SMALL)
    assert len(sink.envelopes) == 2
    assert [repair.stored for repair in repaired(sink, LARGE)] == [1] * 4
    assert contents(sink.envelopes) == contents(imported(documents, None, LARGE).envelopes)


@given(documents=files() | arrays(), call=st.sampled_from([None, "track"]))
def test_repairing_under_larger_limits_is_importing_under_them(documents: list[Document], call: Call | None) -> None:
    """A law, for each message that was rejected for a limit; one that would be rejected anyway stays rejected."""
    sink = imported(documents, call, SMALL)
    repairs = repaired(sink, LARGE)
    direct = imported(documents, call, LARGE)
    assert contents(sink.envelopes) == contents(direct.envelopes)
    assert sum(repair.rejected or repair.code == "import_only" for repair in repairs) == len(direct.rejected)
    assert all(repair.stored or repair.outcome == "refused" for repair in repairs), "each is a separate message"
