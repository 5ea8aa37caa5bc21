"""Matching: equal values, types, patterns and callables; subsets and exact objects."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import json_objects, json_values
from trackcore_testing.matching import Comparison, Expectation

MESSAGE = {
    "type": "track",
    "event": "Order Completed",
    "userId": "u1",
    "properties": {"total": 9.5, "count": 2, "gift": True, "coupon": None, "items": [{"sku": "hat", "price": 4}]},
}


def matches(expected: Any, received: Any, *, exactly: bool = False) -> bool:
    """Return whether a value of a message matches."""
    return Expectation(fields={"properties": expected}, exactly=exactly).matches(
        {"type": "track", "properties": received}
    )


class TestValues:
    """Values may be equal, a callable, a compiled pattern or a type."""

    @pytest.mark.parametrize(
        ("expected", "received"),
        [
            (9.5, 9.5),
            (10.0, 10),
            (10, 10.0),
            (True, True),
            ("hat", "hat"),
            (str, "hat"),
            (int, 2),
            (float, 9.5),
            (float, 9),
            (bool, False),
            (dict, {}),
            (list, []),
            (object, True),
            (re.compile("^h"), "hat"),
            (re.compile("a"), "hat"),
            (lambda total: total > 9, 9.5),
            (len, "x"),
            (..., 0),
            (..., None),
            (None, None),
            (ANY, {"x": 1}),
            (pytest.approx(9.5), 9.5000001),
            ((1, 2), [1, 2]),
            ([int, ...], [1, "x"]),
        ],
    )
    def test_these_match(self, expected: Any, received: Any) -> None:
        assert matches(expected, received)

    @pytest.mark.parametrize(
        ("expected", "received"),
        [
            (9.5, "9.5"),
            (1, True),
            (True, 1),
            (0, False),
            (False, None),
            ("hat", ["hat"]),
            (str, 5),
            (int, True),
            (int, 2.5),
            (float, True),
            (float, "9.5"),
            (re.compile("^a"), "hat"),
            (re.compile("9"), 9),
            (lambda total: total > 10, 9.5),
            (None, 0),
            (None, ""),
            ([1], [1, 2]),
            ([1, 2], [2, 1]),
            ({"a": 1}, [1]),
            ({}, None),
        ],
    )
    def test_these_do_not(self, expected: Any, received: Any) -> None:
        assert not matches(expected, received)

    def test_a_field_that_is_absent_matches_only_none(self) -> None:
        expected: Any
        for expected in (..., ANY, str, re.compile(""), lambda _: True, "", {}, []):
            assert not Expectation(fields={"userId": expected}).matches({"type": "track"})
        assert Expectation(fields={"userId": None}).matches({"type": "track"})

    def test_a_callable_that_raises_does_not_match_and_is_named(self) -> None:
        expectation = Expectation(fields={"userId": lambda user: user > 5})
        (found,) = expectation.compare(MESSAGE)
        assert not found.matches
        assert found.received.startswith('"u1"  (TypeError: ')


class TestObjects:
    """A subset matches by default; with `exactly`, there must not be other keys, at any depth."""

    @given(json_objects())
    def test_an_object_matches_itself(self, value: dict[str, Any]) -> None:
        assert matches(deepcopy(value), value, exactly=True)

    @given(json_objects(), st.text(max_size=8), json_values())
    def test_more_keys_match_unless_exactly(self, value: dict[str, Any], name: str, more: Any) -> None:
        assume(name not in value)
        assert matches(value, {**value, name: more})
        assert not matches(value, {**value, name: more}, exactly=True)

    @given(json_objects(), st.text(max_size=8), json_values())
    def test_less_keys_do_not_match(self, value: dict[str, Any], name: str, more: Any) -> None:
        assume(name not in value)
        assert matches({**value, name: more}, value) == (more is None)

    def test_objects_in_arrays_are_subsets_as_well(self) -> None:
        items = [{"sku": "hat", "price": 4}, {"sku": "tie", "price": 5}]
        assert matches({"items": [{"sku": "hat"}, {"sku": "tie"}]}, {"items": items})
        assert not matches({"items": [{"sku": "hat"}, {"sku": "tie"}]}, {"items": items}, exactly=True)

    def test_each_difference_has_its_path(self) -> None:
        expected = {"total": "9.5", "items": [{"sku": re.compile("tie"), "size": int}], "gift": True}
        found = Expectation(fields={"userId": "u2", "properties": expected}).compare(MESSAGE)
        assert [(one.path, one.expected, one.received) for one in found if not one.matches] == [
            ("userId", '"u2"', '"u1"'),
            ("properties.total", '"9.5"', "9.5"),
            ("properties.items[0].sku", "text that matches 'tie'", '"hat"'),
            ("properties.items[0].size", "a whole number", "(absent)"),
        ]

    def test_exactly_names_what_is_too_much(self) -> None:
        found = [
            *Expectation(fields={"properties": {"total": 9.5}}, exactly=True).compare(
                {"properties": {"total": 9.5, "x": 1}}
            )
        ]
        assert found[1:] == [Comparison("properties.x", "(absent)", "1", matches=False)]


class TestCalls:
    def test_the_call_must_be_equal(self) -> None:
        assert Expectation(call="track").matches(MESSAGE)
        assert not Expectation(call="page").matches(MESSAGE)
        assert Expectation().matches(MESSAGE)
