"""The line of a setting in a configuration, whichever way TOML writes it."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from trackcore_server.config.lines import line_of

TEXT = """\
# sources[0].name = "a comment"
server.bind = "a dotted key"

[[sources]]
name = \'\'\'
write_keys = ["in a text"]
[[sources]]
\'\'\'
"write_keys" = [
  "one",
  "two",
]
[sources.plan_controls]   # of the first source
common."event key" = 1
[[sources]]
name = "second"
ip = {mode = "drop", ipv4_bits = 1}
[[destinations]]
headers = {"a.b" = 1, a = {b = 2}}
headers_of.a = 1

[destinations.client]
"sasl.password" = "x"
[ limits ]
request_bytes = 1
"""


STATEMENTS = [
    "[[t]]",
    "[[t.u]]",
    "[sN.a]",
    "kN = 1",
    "kN = [\n1,\n\n{x = 2}, # kN = 1\n]",
    'kN = """\n[[t]]\nk1 = 1\n"""',
    "kN.a.b = 1",
    "'kN' = {a = 1}",
    "# [[t]]",
    "",
]


class TestLines:
    """All mistakes at once, each with file and place; a line is right, or there is none."""

    @pytest.mark.parametrize(
        ("path", "line"),
        [
            ("server", 2),
            ("server.bind", 2),
            ("server.workers", 2),
            ("sources", 4),
            ("sources[0]", 4),
            ("sources[0].name", 5),
            ("sources[0].missing", 4),
            ("sources[0].write_keys", 9),
            ("sources[0].write_keys[1]", 9),
            ("sources[0].write_keys[2]", 9),
            ("sources[0].plan_controls", 13),
            ("sources[0].plan_controls.common.event key", 14),
            ("sources[1]", 15),
            ("sources[1].name", 16),
            ("sources[1].ip.ipv4_bits", 17),
            ("sources[1].plan_controls", 15),
            ("sources[2]", 4),
            ("destinations[0].headers.a.b", 19),
            ("destinations[0].headers_of.a", 20),
            ("destinations[0].client.sasl.password", 23),
            ("limits.request_bytes", 25),
            ("limits.request_byte", 24),
            ("log", None),
            ("", None),
        ],
    )
    def test_each_way_to_write_a_setting(self, path: str, line: int | None) -> None:
        assert line_of(TEXT, path) == line

    def test_windows_and_one_line(self) -> None:
        assert line_of(TEXT.replace("\n", "\r\n"), "limits.request_bytes") == 25
        assert line_of("a = 1", "a") == 1

    def test_text_that_is_not_toml_has_no_lines(self) -> None:
        assert line_of("a = 1\nb =", "a") is None

    @given(st.lists(st.sampled_from(STATEMENTS), max_size=12))
    def test_it_is_the_line_where_the_statement_begins(self, statements: list[str]) -> None:
        """Each name with the number of its statement is found where that statement was written."""
        text, begins, line = "", {}, 1
        for number, statement in enumerate(statements):
            written = statement.replace("N", str(number))
            begins[number] = line
            text += written + "\n"
            line += written.count("\n") + 1
        for path, number in _named(_valid(text)):
            assert line_of(text, path) == begins[number]


def _valid(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:  # a table that is also an array of tables
        reject()


def _named(value: Any, path: str = "") -> list[tuple[str, int]]:
    """Return the paths that end with the number of a statement, and that number."""
    found = []
    if isinstance(value, list):
        for index, item in enumerate(value):
            found += _named(item, f"{path}[{index}]")
    for name, inner in value.items() if isinstance(value, dict) else ():
        here = f"{path}.{name}".removeprefix(".")
        found += [(here, int(name[1:]))] if name[1:].isdigit() else []
        found += _named(inner, here)
    return found
