"""The conditions of a `Search`: how people look for a message, in any part of the log.

Only a window of rows is examined at a time (see `browse`), so a condition may read the payload.  The rejected part
is examined as what it is, JSON or not: a condition on its fields matches the rejected message itself, or any message in
the batch of a request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from trackcore import Part, Search
from trackcore_sqlite.queries import CONDITIONS, IN_ARRAY, NOTHING, json_array
from trackcore_sqlite.times import milliseconds

Condition: TypeAlias = tuple[str, Sequence[Any]]
"""An expression of SQL, and the values of its placeholders."""

_PAYLOAD = "CAST(payload AS TEXT)"
_JSON = f"iif(json_valid({_PAYLOAD}), {_PAYLOAD}, '{{}}')"


def searched(part: Part, search: Search, *, after: int, last: int) -> tuple[str, list[Any]]:
    """Return the condition for the rows of a part that match a search with `after < seq <= last`, and its values."""
    conditions: list[Condition] = [("seq > ?", [after]), ("seq <= ?", [last]), *_conditions(part, search)]
    where = " AND ".join(sql for sql, _ in conditions)
    return f"WHERE {where}", [value for _, values in conditions for value in values]


def is_slow(part: Part, search: Search) -> bool:
    """Return whether a search takes long for each row of a part: it parses the payload, or folds letters in it."""
    parsed = search.event, search.path, *((search.user, search.call) if part in _UNACCEPTED else ())
    return any(value is not None for value in parsed) or not (search.text or "").isascii()


def _conditions(part: Part, search: Search) -> Iterator[Condition]:
    columns = CONDITIONS[part]
    for name, value in _plain_values(search).items():
        if value is not None:
            yield columns[name], [value]
    if search.seqs is not None:
        yield (IN_ARRAY, [json_array(search.seqs)]) if part == "messages" else (NOTHING, [0])
    if search.destination is not None:
        yield _of_destination(part, search)
    if search.concern is not None:
        yield _CONCERNS[part, search.concern], []
    if search.text is not None:
        yield _containing(search.text)
    for condition in _of_fields(part, search):
        yield condition if part not in _UNACCEPTED else _in_any_message(condition)


def _plain_values(search: Search) -> Mapping[str, object]:
    return {
        "source": search.source,
        "code": search.code,
        "since": None if search.since is None else milliseconds(search.since),
        "until": None if search.until is None else milliseconds(search.until),
    }


def _of_destination(part: Part, search: Search) -> Condition:
    if part != "messages":
        return NOTHING, [0]
    if search.delivery == "dead_letter":  # its numbers are `seqs`
        return "TRUE", []
    compared = "= 0" if search.delivery == "not_selected" else "> 0"
    return f"instr(destinations, ?) {compared}", [msgspec.json.encode(search.destination).decode()]


def _containing(text: str) -> Condition:
    """Match a text without regard to case.  SQLite folds ASCII alone, so other letters of the text are replaced first.

    They may be escaped as well, which some SDKs do.
    """
    folded, values = f"lower({_PAYLOAD})", list[str]()
    for letter in sorted({letter for letter in text.lower() if not letter.isascii()}):
        cases = {letter, letter.upper()} if len(letter.upper()) == 1 else {letter}
        for form in sorted((cases | set(map(_escape, cases))) - {letter}):
            folded = f"replace({folded}, ?, ?)"
            values += [form, letter]
    return f"instr({folded}, ?) > 0", [*values, text.lower()]


def _escape(letter: str) -> str:
    return json.dumps(letter)[1:-1].lower()


def _of_fields(part: Part, search: Search) -> Iterator[Condition]:
    """Yield the conditions on fields of a message, which is `item` in what was not accepted."""
    if part in _UNACCEPTED:
        if search.user is not None:
            yield f"? IN ({_text_at('userId')}, {_text_at('anonymousId')})", [search.user]
        if search.call is not None:
            yield "? IN (json_extract(item, '$.type'), endpoint)", [search.call]
    else:
        if search.user is not None:
            yield "? IN (user_id, anonymous_id)", [search.user]
        if search.call is not None:
            yield "call = ?", [search.call]
    item = "item" if part in _UNACCEPTED else _PAYLOAD
    if search.event is not None:
        yield f"coalesce(json_extract({item}, '$.event'), json_extract({item}, '$.name')) = ?", [search.event]
    if search.path is not None:
        yield _at_path(item, search.path, search.value)


def _text_at(field: str) -> str:
    return f"CAST(json_extract(item, '$.{field}') AS TEXT)"


def _at_path(item: str, path: str, value: str | None) -> Condition:
    place = _json_path(path)
    if place is None:
        return NOTHING, [0]
    if value is None:
        return f"json_type({item}, ?) IS NOT NULL", [place]
    constant = f"json_type({item}, ?) IN ('true', 'false', 'null') AND json_type({item}, ?) = ?"
    other = f"json_type({item}, ?) NOT IN ('true', 'false') AND CAST(json_extract({item}, ?) AS TEXT) = ?"
    return f"(({constant}) OR ({other}))", [place, place, value, place, place, value]


_INDEX = re.compile(r"(?<=\S)((?:\[\d{1,6}\])*)$")


def _json_path(path: str) -> str | None:
    """Return a path as SQLite writes it; None for one that it cannot write."""
    if '"' in path:
        return None
    found = "$"
    for step in path.split("."):
        indexes = _INDEX.search(step)
        index = indexes[1] if indexes else ""
        found += f'."{step.removesuffix(index) if index else step}"{index}'
    return found


def _in_any_message(condition: Condition) -> Condition:
    sql, values = condition
    return f"EXISTS (SELECT 1 FROM ({_ITEMS}) WHERE {sql})", values


_ITEMS = f"""
    SELECT {_JSON} AS item UNION ALL
    SELECT iif(type = 'object', value, '{{}}') FROM json_each({_JSON}, '$.batch')
"""
_UNACCEPTED = ("rejected", "quarantine")
_VIOLATION = '"code":"plan_'

_CONCERNS: Mapping[tuple[Part, str], str] = {
    ("messages", "warning"): "cautions IS NOT NULL AND cautions <> '[]'",
    ("duplicates", "warning"): "cautions IS NOT NULL AND cautions <> '[]'",
    ("rejected", "warning"): "FALSE",
    ("quarantine", "warning"): "FALSE",
    ("messages", "violation"): f"instr(cautions, '{_VIOLATION}') > 0",
    ("duplicates", "violation"): f"instr(cautions, '{_VIOLATION}') > 0",
    ("rejected", "violation"): "code GLOB 'plan_*'",
    ("quarantine", "violation"): "FALSE",
}
