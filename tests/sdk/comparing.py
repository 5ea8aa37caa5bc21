"""Comparing the log with the calls of an SDK, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sdk.cases import VISITOR, Case
from sdk.sdks import IDS, Sdk
from sdk.servers import DESTINATIONS, WRITE_KEY

from trackcore import JSONObject, StoredMessage

# The fields that the server sets on every message with a time and a sentAt.
SET_BY_SERVER = frozenset({"type", "messageId", "timestamp", "originalTimestamp", "receivedAt", "sentAt"})
MILLISECOND = timedelta(milliseconds=1)


def match(sdk: Sdk, cases: Iterable[Case], stored: Iterable[StoredMessage]) -> list[tuple[Case, StoredMessage]]:
    """Find the stored message of each case, by its call, ids and event: not all SDKs accept a messageId.

    Fails if a case was not stored exactly once, or if a message belongs to no case.
    """
    messages = list(stored)
    by_identity = {_identity(found.call, found.message): found for found in messages}
    pairs = []
    for case in cases:
        identity = _identity(case.call, expected_fields(sdk, case))
        assert identity in by_identity, f"{sdk.name}, {case.name}: not in the log"
        pairs.append((case, by_identity[identity]))
    assert len({found.seq for _, found in pairs}) == len(pairs) == len(messages)
    return pairs


def _identity(call: str, fields: Mapping[str, Any]) -> tuple[str | None, ...]:
    return call, *(fields.get(name) for name in ("userId", "anonymousId", "event"))


def check_browser_message(
    case: Case, stored: StoredMessage, *, version: str, page: JSONObject, integrations: JSONObject, known: bool
) -> None:
    """Check that a message of a page has the arguments of the call, and the SDK's description of page and browser.

    Args:
        case: the call.
        stored: the message in the log.
        version: the version of the SDK.
        page: the page as the SDK describes it.
        integrations: the global integrations of the SDK.
        known: whether the visitor had been identified.
    """
    message = dict(stored.message)
    assert stored.call == message["type"] == case.call, case.name
    context = message.pop("context")
    for name, value in page["context"].items():
        assert context[name] == case.fields.get("context", {}).get(name, value), f"{case.name}: {name}"
    library = context["library"]
    assert (library["name"], library["version"].rpartition("-")[2]) == ("analytics.js", version), case.name
    assert "HeadlessChrome" in context["userAgent"], case.name
    given = {"ip": "127.0.0.1"} | spoken(
        "browser", case.fields.get("context", {})
    )  # R18: a page's address is filled in
    assert {name: context[name] for name in given} == given, case.name
    made_by_sdk = {"library", "userAgent", "userAgentData", "timezone", *page["context"]}
    assert set(context) <= set(given) | made_by_sdk, case.name

    expected = {
        name: spoken("browser", value) for name, value in case.fields.items() if name not in ("timestamp", "context")
    }
    expected["integrations"] = integrations | case.fields.get("integrations", {})
    if case.call == "page":
        # The SDK always copies the category, but the name only if it is set.
        named = {name: expected[name] for name in ("category", "name") if name in expected}
        if named.get("name") == "":
            del named["name"]
        expected["properties"] = page["properties"] | expected.get("properties", {}) | named
    if case.call != "alias" and known:
        expected["userId"] = spoken("browser", VISITOR)
    expected = {name: value for name, value in expected.items() if not (name in ("category", "name") and value == "")}
    for field, value in expected.items():
        assert message.get(field) == value, f"{case.name}: {field}"
    assert set(message) - set(expected) - SET_BY_SERVER <= {"anonymousId", "_metadata"} | _defaults(case), case.name
    assert WRITE_KEY not in repr(message), case.name
    _check_times(case, message, case.name)
    wanted = DESTINATIONS if case.destinations is None else case.destinations
    assert sorted(stored.destinations) == sorted(wanted), case.name
    assert [warning["code"] for warning in stored.warnings] == list(case.warnings), case.name


def check_message(sdk: Sdk, case: Case, stored: StoredMessage) -> None:
    """Check that a stored message has only the arguments of the call and the fields that SDK and server add."""
    message = dict(stored.message)
    where = f"{sdk.name}, {case.name}"
    assert stored.call == message["type"] == case.call, where
    expected = expected_fields(sdk, case)
    library = message.get("context", {}).get("library", {})
    sent = (sdk.habits.library, sdk.habits.library_version or sdk.version)
    assert (library.get("name"), library.get("version")) == sent, where
    for field, value in expected.items():
        found = message.get(field)
        if field == "context":
            assert isinstance(found, dict)
            found = {name: part for name, part in found.items() if name != "library"}
        assert found == value, f"{where}: {field}"
    added = set(message) - set(expected) - SET_BY_SERVER
    assert added <= sdk.habits.adds | _defaults(case), f"{where}: {added}"
    assert WRITE_KEY not in repr(message), where
    _check_times(case, message, where, sends_sent_at=sdk.habits.sends_sent_at)
    wanted = DESTINATIONS if case.destinations is None else case.destinations
    assert sorted(stored.destinations) == sorted(wanted), where
    assert sorted(warning["code"] for warning in stored.warnings) == sorted(expected_cautions(sdk, case)), where


def expected_fields(sdk: Sdk, case: Case) -> JSONObject:
    """Return the fields that the log must have of a call, by the habits of the SDK and the rules of the server."""
    fields = {name: spoken(sdk.language, value) for name, value in case.fields.items() if name != "timestamp"}
    habits = sdk.habits
    if habits.category_in_properties and case.call == "page" and "category" in fields:
        fields["properties"] = {**fields["properties"], "category": fields["category"]}
    if habits.traits_in_context and case.call == "identify" and "traits" in fields:
        fields["context"] = {**fields.get("context", {}), "traits": fields["traits"]}
        if habits.moves_traits:
            del fields["traits"]
    if habits.names_all and fields.get("integrations") == {}:
        fields["integrations"] = {"All": True}
    if not habits.takes_message_id:
        fields.pop("messageId", None)
    for name in IDS & set(fields):
        fields[name] = str(fields[name])  # R12: a number is converted to its decimal text
    if (fields.get("context") or {}).get("direct"):
        fields["context"] = {**fields["context"], "ip": "127.0.0.1"}  # R18: the connection's address
    # R12, R13: an empty id, name or category counts as absent.
    absent_when_empty = IDS | {"name", "category"}
    return {name: value for name, value in fields.items() if not (name in absent_when_empty and value == "")}


def expected_cautions(sdk: Sdk, case: Case) -> list[str]:
    """Return the warnings that the log must have with a message."""
    numbers = [name for name in IDS & set(case.fields) if isinstance(case.fields[name], int)]
    return [*case.warnings, *("id_from_number" for name in numbers if name in sdk.habits.numeric_ids)]


def spoken(language: str, value: Any) -> Any:
    """Return a value as the SDKs of a language write it and the server stores it."""
    if isinstance(value, dict):
        return _spoken_object(language, value)
    if isinstance(value, list):
        return [spoken(language, part) for part in value]
    if isinstance(value, str):
        return value.replace("\ud800", "\ufffd")  # R19: an unpaired surrogate is replaced
    return value


def _spoken_object(language: str, value: JSONObject) -> Any:
    if "$date" in value:
        return _spoken_date(language, datetime.fromisoformat(value["$date"]))
    if "$day" in value:
        return date.fromisoformat(value["$day"]).isoformat()
    if "$big" in value:
        return int(value["$big"])
    return {name: spoken(language, part) for name, part in value.items()}


def _spoken_date(language: str, time: datetime) -> str:
    if language == "Python":
        return time.isoformat()
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _defaults(case: Case) -> set[str]:
    """Return the dictionary field of a call, which every SDK sends empty by default."""
    return {"traits"} if case.call in ("identify", "group") else {"properties"} if case.call != "alias" else set()


def _check_times(case: Case, message: Mapping[str, Any], where: str, *, sends_sent_at: bool = True) -> None:
    """R15: `timestamp = receivedAt - (sentAt - originalTimestamp)`, in UTC with milliseconds; the original is kept.

    "without sentAt the client's time stands".
    """
    original, received, corrected = (
        datetime.fromisoformat(message[name]) for name in ("originalTimestamp", "receivedAt", "timestamp")
    )
    if "timestamp" in case.fields:
        assert original == datetime.fromisoformat(case.fields["timestamp"]["$date"]), where
    else:
        assert abs(received - original) < timedelta(minutes=1), where
    assert message["timestamp"].endswith("Z"), where
    assert ("sentAt" in message) == sends_sent_at, where
    skew = datetime.fromisoformat(message["sentAt"]) - received if sends_sent_at else timedelta(0)
    assert abs(corrected - (original - skew)) <= MILLISECOND, where
