"""The rows that a warehouse must hold for a log, by the rules of the page on its layout, written out again.

Nothing of `trackcore.warehouse` is used.  Each table is computed from all messages at once: first which values its
columns get, in their order, then the type of each column, then how that type holds the values.
"""

from __future__ import annotations

import json
import math
import re
import string
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from trackcore import parse_timestamp

COMMON = {"id", "received_at", "anonymous_id", "user_id", "sent_at", "timestamp", "original_timestamp"}
STANDARD = {
    "tracks": COMMON | {"event", "event_text"},
    "identifies": COMMON,
    "groups": COMMON | {"group_id"},
    "pages": COMMON | {"name", "category"},
    "screens": COMMON | {"name", "category"},
    "aliases": COMMON | {"previous_id"},
    "users": {"id", "received_at"},
    "accounts": {"id", "received_at"},
}
DECLARED = {
    **dict.fromkeys(("ip", "locale", "timezone", "user_agent"), "text"),
    **dict.fromkeys(("library_name", "library_version", "network_carrier", "os_name", "os_version"), "text"),
    **dict.fromkeys(("page_url", "page_path", "page_title", "page_search", "page_referrer"), "text"),
    **dict.fromkeys([f"campaign_{one}" for one in ("name", "source", "medium", "term", "content")], "text"),
    **dict.fromkeys([f"app_{one}" for one in ("name", "version", "build", "namespace")], "text"),
    **dict.fromkeys(
        [f"device_{one}" for one in ("id", "type", "model", "name", "manufacturer", "advertising_id")], "text"
    ),
    **dict.fromkeys([f"protocols_{one}" for one in ("source_id", "source_name", "violations", "omitted")], "text"),
    **dict.fromkeys(("screen_width", "screen_height"), "integer"),
    "screen_density": "float",
    **dict.fromkeys(("device_ad_tracking_enabled", "network_wifi", "network_cellular", "network_bluetooth"), "boolean"),
}
DECLARED = {f"context_{name}": kind for name, kind in DECLARED.items()}
TIMES = {"received_at": "receivedAt", "sent_at": "sentAt", "timestamp": "timestamp"}
TIMES["original_timestamp"] = "originalTimestamp"
TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,12}))?)?(Z|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)


class Number(NamedTuple):
    """A number with a fraction or an exponent, as it is written."""

    text: str

    @property
    def value(self) -> float:
        return float(self.text)


class Stored(NamedTuple):
    """A message of the log."""

    seq: int
    source: str
    payload: bytes


Tables = dict[str, dict[str, dict[str, Any]]]


def expected_tables(log: Iterable[Stored]) -> Tables:
    """Return the rows of each table by their id, for the messages of one source."""
    rows: dict[str, list[dict[str, Any]]] = {}
    profiles: dict[str, list[tuple[Any, int, dict[str, Any]]]] = {"users": [], "accounts": []}
    for seq, _, payload in log:
        message = read(payload)
        for table, row in _rows_of(message):
            rows.setdefault(table, []).append(row)
            if table in ("identifies", "groups"):
                _add_profile(profiles, table, message, row, seq)
    tables: Tables = {}
    for table, found in rows.items():
        first: dict[str, dict[str, Any]] = {}
        for row in _typed(table, found):
            first.setdefault(row["id"], row)
        tables[table] = first
    for table, sent in profiles.items():
        if sent:
            tables[table] = _latest(table, sent)
    return tables


def read(payload: bytes) -> dict[str, Any]:
    """Read a stored message with the digits of its numbers."""
    message: dict[str, Any] = _without_surrogates(json.loads(payload, parse_float=Number))
    return message


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_surrogates(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(one) for one in value]
    return re.sub("[\ud800-\udfff]", "\ufffd", value) if isinstance(value, str) else value


def _rows_of(message: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:  # noqa: C901, PLR0912 - one case after the other
    common = {"id": message["messageId"]}
    for column, field in TIMES.items():
        time = parse_timestamp(message[field]) if message.get(field) is not None else None
        if time is not None:
            common[column] = time
    for column, field in (("anonymous_id", "anonymousId"), ("user_id", "userId")):
        if message.get(field):
            common[column] = message[field]
    context = _flat("context", message.get("context"))
    call = message["type"]
    if call == "track":
        name = snake(message.get("event") or "")
        common["event_text"] = message.get("event") or ""
        if name:
            common["event"] = name
        yield "tracks", {**common, **context}
        if name:
            table = cut(name)
            if table in STANDARD:
                table = "_" + table
            yield table, _with_free(table, common, context, message.get("properties"))
    elif call in ("page", "screen"):
        for field in ("name", "category"):
            found = message.get(field) or (message.get("properties") or {}).get(field)
            if found and not isinstance(found, dict):
                common[field] = _text(found)
        yield call + "s", _with_free(call + "s", common, context, message.get("properties"))
    else:
        table = {"identify": "identifies", "group": "groups", "alias": "aliases"}[call]
        for column, field in (("group_id", "groupId"), ("previous_id", "previousId")):
            if column in STANDARD[table] and message.get(field):
                common[column] = message[field]
        yield table, _with_free(table, common, context, message.get("traits"))


def _with_free(table: str, common: dict[str, Any], context: dict[str, Any], free: Any) -> dict[str, Any]:
    taken = STANDARD.get(table, STANDARD["tracks"]) | DECLARED.keys() | context.keys() | {"uuid_ts"}
    own = {name: value for name, value in _flat("", free).items() if name not in taken}
    return {**common, **own, **context}


def _flat(prefix: str, values: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items() if isinstance(values, dict) else ():
        path = "_".join(filter(None, [prefix, snake(key)]))
        if isinstance(value, dict):
            inner = _flat(path, value)
            for name in inner:
                found.pop(name, None)
            found.update(inner)
        elif value is not None and path != prefix:
            name = "_" + path if path in ("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid") else cut(path)
            found.pop(name, None)
            found[name] = value
    return found


def snake(name: str) -> str:
    """Return the slug of a name, letter by letter."""
    words: list[str] = []
    word, has_lower = "", False
    for letter in name:
        is_upper, is_lower = letter in string.ascii_uppercase, letter in string.ascii_lowercase
        if not (is_upper or is_lower or letter in string.digits):
            words.append(word)
            word, has_lower = "", False
            continue
        if is_upper and has_lower:
            words.append(word)
            word, has_lower = "", False
        word += letter.lower()
        has_lower = has_lower or is_lower
    return "_".join(filter(None, [*words, word]))


def cut(name: str) -> str:
    """Return a name that fits, as the page on the layout says."""
    return name if len(name) <= 63 else name[:52] + "_" + sha256(name.encode()).hexdigest()[:10]


# Types


def _typed(table: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with the values that their columns hold in the end."""
    columns: dict[str, list[tuple[int, Any]]] = {}
    for number, row in enumerate(rows):
        for name, value in row.items():
            columns.setdefault(name, []).append((number, value))
    typed: list[dict[str, Any]] = [{} for _ in rows]
    for name, values in columns.items():
        for (number, _), stored in zip(values, _column(table, name, [value for _, value in values]), strict=True):
            if stored is not None:
                typed[number][name] = stored
    return typed


def _column(table: str, name: str, values: Sequence[Any]) -> list[Any]:
    is_standard = name in STANDARD.get(table, STANDARD["tracks"])
    kind = None if table == "accounts" else DECLARED.get(name)
    if is_standard:
        kind = "time" if name in TIMES else "text"
    stored: list[Any] = []
    for value in values:
        if value == "" and kind != "text":
            stored.append(None)
            continue
        kind = kind or _kind(value)
        held = _held(kind, value)
        if held is None and not is_standard:
            wider = _wider(kind, value)
            if wider:
                stored = [_after(kind, wider, one) for one in stored]
                kind = wider
                held = _held(kind, value)
        stored.append(held)
    return stored


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if -(2**63) <= value < 2**63 else "text"
    if isinstance(value, Number):
        return "float" if math.isfinite(value.value) else "text"
    if isinstance(value, str) and _time(value):
        return "time"
    return "text"


def _wider(kind: str, value: Any) -> str | None:
    if kind == "integer" and isinstance(value, Number) and math.isfinite(value.value):
        return "float"
    return "text" if kind in ("boolean", "time") else None


def _after(before: str, kind: str, stored: Any) -> Any:
    if stored is None:
        return None
    if kind == "float":
        return float(stored)
    return ("false", "true")[stored] if before == "boolean" else stored.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def _held(kind: str, value: Any) -> Any:  # noqa: C901, PLR0911, PLR0912 - one case after the other
    if kind == "text":
        return _text(value)
    if kind == "boolean":
        return (
            value
            if isinstance(value, bool)
            else {"true": True, "false": False}.get(value if isinstance(value, str) else "")
        )
    if kind == "time":
        if isinstance(value, datetime):
            return value
        if not isinstance(value, str):
            return None
        if re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
            value += "T00:00"
        return _time(value)
    if isinstance(value, bool | list):
        return None
    if kind == "integer":
        if isinstance(value, Number):
            number = value.value
            return int(number) if abs(number) <= 2**53 and number == int(number) else None
        if isinstance(value, str):
            if not re.fullmatch(r"-?\d{1,19}", value, re.ASCII):
                return None
            value = int(value)
        return value if -(2**63) <= value < 2**63 else None
    if isinstance(value, str) and not re.fullmatch(r"-?\d{1,400}(\.\d{1,400})?([eE][+-]?\d{1,4})?", value, re.ASCII):
        return None
    try:
        number = float(value.text if isinstance(value, Number) else value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _time(text: str) -> datetime | None:
    match = TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    micro = int((fraction or "0").ljust(6, "0")[:6])
    try:
        extra = timedelta()
        if hour == "24" and (minute, second or "00", micro) == ("00", "00", 0):
            hour, extra = "0", timedelta(days=1)
        if second == "60":
            second, extra = "59", timedelta(seconds=1)
        time = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0), micro, tzinfo=UTC)
        if zone and zone != "Z":
            digits = zone[1:].replace(":", "").ljust(4, "0")
            offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
            extra += offset if zone[0] == "-" else -offset
        return time + extra
    except (ValueError, OverflowError):
        return None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Number):
        return value.text
    if isinstance(value, list):
        return _json(value)
    text = value if isinstance(value, str) else str(value)
    return "".join("\ufffd" if letter == "\0" or "\ud800" <= letter <= "\udfff" else letter for letter in text)


def _json(value: Any) -> str:
    if isinstance(value, Number):
        return value.text
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{_json(name)}:{_json(one)}" for name, one in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


# The latest traits


def _add_profile(
    profiles: dict[str, list[tuple[Any, int, dict[str, Any]]]],
    table: str,
    message: dict[str, Any],
    row: dict[str, Any],
    seq: int,
) -> None:
    own = "users" if table == "identifies" else "accounts"
    profile_id = row.get("user_id" if own == "users" else "group_id")
    if not profile_id or len(profile_id) > 500:
        return
    context = _flat("context", message.get("context"))
    left_out = STANDARD[table] | (set() if own == "users" else context.keys())
    values = {name: value for name, value in row.items() if name not in left_out}
    if "received_at" in row:
        values["received_at"] = row["received_at"]
    profiles[own].append((row.get("received_at", datetime.min.replace(tzinfo=UTC)), seq, {"id": profile_id, **values}))


def _latest(table: str, sent: Sequence[tuple[Any, int, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    typed = _typed(table, [values for _, _, values in sent])
    order = sorted(range(len(sent)), key=lambda number: sent[number][:2])
    found: dict[str, dict[str, Any]] = {}
    for number in order:
        found.setdefault(typed[number]["id"], {}).update(typed[number])
    return found
