"""The validator of `trackcore_plans`: it agrees with `jsonschema`, and its time is bounded."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from typing import Any

import jsonschema
import pytest
from plan_helpers import any_properties, any_schema, found, plan, rule, track
from trackcore_plans import compile_schema
from trackcore_plans.error_counts import most_errors
from trackcore_plans.validator import MAX_ERRORS

from trackcore import JSONObject
from trackcore.plans import DRAFT_07, InvalidSchema, SchemaError, check_cost

DRAFTS: dict[str, Any] = {
    "http://json-schema.org/draft-06/schema#": jsonschema.Draft6Validator,
    DRAFT_07: jsonschema.Draft7Validator,
    "https://json-schema.org/draft/2019-09/schema": jsonschema.Draft201909Validator,
    "https://json-schema.org/draft/2020-12/schema": jsonschema.Draft202012Validator,
}


def errors(schema: JSONObject, message: JSONObject) -> set[tuple[object, ...]]:
    """Return the errors, one for each field that is missing or too many."""
    return {part for error in compile_schema(schema)(message) for part in _parts(error)}


def _parts(error: SchemaError) -> list[tuple[object, ...]]:
    if error.names:
        return [(error.keyword, *error.location, name) for name in error.names]
    return [(error.keyword, *error.location)]


def oracle_errors(validator: Any, message: JSONObject) -> set[tuple[object, ...]]:
    shown: set[tuple[object, ...]] = set()
    for error in validator.iter_errors(message):
        path = tuple(error.absolute_path)
        if error.validator == "required":
            shown |= {(error.validator, *path, name) for name in error.validator_value if name not in error.instance}
        elif error.validator == "additionalProperties" and error.validator_value is False:
            known, patterns = error.schema.get("properties", {}), error.schema.get("patternProperties", {})
            others = [name for name in error.instance if name not in known and not _matches(patterns, name)]
            shown |= {(error.validator, *path, name) for name in others}
        else:
            shown.add((error.validator, *path))
    return shown


def _matches(patterns: Iterable[str], name: str) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


class TestOracle:
    """`jsonschema` and `jsonschema-rs` agree on generated messages for generated plans."""

    @pytest.mark.parametrize("draft", DRAFTS)
    def test_they_find_the_same_errors(self, draft: str, *, is_long: bool) -> None:
        rng = random.Random(draft)
        plans, messages = (250, 100) if is_long else (25, 50)  # times the drafts: 100,000 in the long form
        for _ in range(plans):
            schema = {"$schema": draft, **any_schema(rng, 3)}
            validator, oracle = compile_schema(schema), DRAFTS[draft](schema)
            for _ in range(messages):
                message = any_properties(rng, 3)
                found_errors = {part for error in validator(message) for part in _parts(error)}
                assert found_errors == oracle_errors(oracle, message), (schema, message)

    def test_draft_04(self) -> None:
        schema = {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True}
        checked = compile_schema({**schema, "minimum": 1})
        del schema["minimum"]
        assert list(checked({})) == []
        inner = {"$schema": schema["$schema"], "properties": {"x": {"minimum": 1, "exclusiveMinimum": True}}}
        assert errors(inner, {"x": 1}) == {("exclusiveMinimum", "x")}
        assert errors(inner, {"x": 2}) == set()

    @pytest.mark.parametrize("draft", [*DRAFTS, "http://json-schema.org/draft-04/schema#"])
    def test_formats_are_checked_in_every_draft(self, draft: str) -> None:
        schema = {"$schema": draft, "properties": {"at": {"format": "date-time"}}}
        assert errors(schema, {"at": "2026-01-31T12:00:00Z"}) == set()
        assert errors(schema, {"at": "31.1.2026"}) == {("format", "at")}

    def test_without_a_dialect_it_is_draft_07(self) -> None:
        assert errors({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, {"a": 1}) == {("required", "b")}


def checked_text(pattern: str, text: str) -> list[tuple[str, str]]:
    return found(plan(rule("E", {"properties": {"x": {"pattern": pattern}}})), track("E", x=text))


class TestPatterns:
    """A plan's patterns and a stranger's values together cost bounded time."""

    WRONG = (("wrong_value", "properties.x"),)

    @pytest.mark.parametrize("text", ["ab", "a" * 400 + "b"])
    def test_look_around_works_on_short_texts(self, text: str) -> None:
        assert checked_text("^(?=a).*(?<!c)b$", text) == []
        assert checked_text("^(?!a)", text) == [*self.WRONG]

    @pytest.mark.parametrize("pattern", ["^(?=a).*b$", "^.{1,100}$", "^[01]*1[01]{200}$"])
    def test_a_long_text_violates_a_costly_pattern(self, pattern: str) -> None:
        assert checked_text(pattern, "a" * 501) == [*self.WRONG]

    def test_a_cheap_pattern_has_no_limit(self) -> None:
        assert checked_text("^a+$", "a" * 30_000) == []
        assert checked_text("^(a+)+$", "a" * 30_000 + "b") == [*self.WRONG]

    def test_a_text_that_costs_too_many_steps_violates_its_pattern(self) -> None:
        assert checked_text(r"^(a|a)*(?!x)\1b$", "a" * 400) == [*self.WRONG]

    @pytest.mark.parametrize("pattern", ["(", "(a{1000}){1000}", "(?<name", "[z-a]"])
    def test_an_unusable_pattern_is_refused(self, pattern: str) -> None:
        with pytest.raises(InvalidSchema, match="is not a regular expression, or too large"):
            compile_schema({"properties": {"x": {"pattern": pattern}}})

    def test_a_costly_pattern_for_names_is_refused(self) -> None:
        with pytest.raises(InvalidSchema) as caught:
            compile_schema({"patternProperties": {"^(?!a)": {}}})
        assert caught.value.steps == ("patternProperties",)

    def test_draft_04_has_no_way_to_bound_a_costly_pattern(self) -> None:
        with pytest.raises(InvalidSchema, match="in draft-04; newer drafts allow larger ones"):
            compile_schema({"$schema": "http://json-schema.org/draft-04/schema#", "pattern": "^(?!a)"})


class TestListsOfErrors:
    """Of an invalid message there is at least one error, and the list is bounded."""

    def test_of_a_long_array_the_first_values_are_listed(self) -> None:
        schema = {"properties": {"x": {"items": {"type": "string"}}}}
        assert errors(schema, {"x": [1] * 16_000}) == {("type", "x", place) for place in range(50)}

    def test_an_error_behind_them_is_still_found(self) -> None:
        schema = {"properties": {"x": {"items": {"type": "string"}}}}
        assert errors(schema, {"x": ["a"] * 100 + [1]}) == {("type", "x", 100)}

    def test_a_long_array_is_long_enough(self) -> None:
        schema = {"properties": {"x": {"minItems": 60, "items": {"type": "string"}}}, "required": ["y"]}
        assert errors(schema, {"x": ["a"] * 70}) == {("required", "y")}

    @pytest.mark.parametrize(
        "schema",
        [{"anyOf": [{"minItems": 60}, {"type": "string"}]}, {"not": {"maxItems": 50}}, {"oneOf": [{"minItems": 51}]}],
    )
    def test_a_long_array_has_what_an_alternative_asks_for(self, schema: JSONObject) -> None:
        assert errors({"properties": {"x": schema}, "required": ["y"]}, {"x": ["a"] * 70}) == {("required", "y")}

    def test_a_long_array_without_what_any_alternative_asks_for(self) -> None:
        schema = {"properties": {"x": {"anyOf": [{"minItems": 90}, {"type": "string"}]}}}
        assert errors(schema, {"x": ["a"] * 70}) == {("anyOf", "x")}

    def test_of_many_fields_with_one_rule_the_first_are_listed(self) -> None:
        schema = {"additionalProperties": {"type": "string"}, "properties": {"last": {"type": "string"}}}
        listed = errors(schema, {**{f"x{place}": 1 for place in range(4_000)}, "last": 1})
        assert ("type", "last") in listed
        assert len(listed) == 51

    @pytest.mark.parametrize(
        ("schema", "value"),
        [
            ({"items": {"items": {"required": [f"x{number}" for number in range(100)]}}}, [[{}] * 50] * 50),
            ({"items": {"items": {"items": {"enum": ["a"], "minimum": 5, "multipleOf": 2}}}}, [[[1] * 5] * 50] * 50),
            (
                {"items": {"additionalProperties": {"enum": ["a"], "minimum": 5, "multipleOf": 2}}},
                [{f"x{number}": 1 for number in range(20)}] * 40,
            ),
            ({"items": {"allOf": [{"items": {"type": "null"}}] * 50}}, [[1] * 50] * 50),
            ({"items": {"anyOf": [{"items": {"type": "null"}}] * 50}}, [[1] * 50] * 50),
            (
                {"items": {"items": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"maximum": 0, "minimum": 2}}},
                [[1] * 50] * 50,
            ),
        ],
    )
    def test_of_very_many_errors_only_some_are_listed(self, schema: JSONObject, value: object) -> None:
        validator = compile_schema({"properties": {"x": schema}, "$defs": schema.pop("$defs", {})})
        listed = list(validator({"x": value}))
        assert 1 <= len(listed) <= MAX_ERRORS
        searched, _ = validator._bounded({"x": value})
        assert sum(map(_with_nested, validator._validator.iter_errors(searched))) <= MAX_ERRORS

    @pytest.mark.parametrize("seed", range(20))
    def test_a_message_never_has_more_errors_than_was_estimated(self, seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(50):
            schema = {"allOf": [any_schema(rng, 3), any_schema(rng, 3)]}
            validator, most = compile_schema(schema), most_errors(schema)
            for _ in range(10):
                message = any_properties(rng, 3)
                found = sum(map(_with_nested, validator._validator.iter_errors(message)))
                assert found <= most.of(message), (schema, message)

    def test_unplanned_names_are_all_listed(self) -> None:
        schema = {"properties": {"a": {}}, "additionalProperties": False}
        assert len(errors(schema, {f"x{place}": 1 for place in range(4_000)})) == 4_000


def _with_nested(error: Any) -> int:
    """Return the number of errors in an error, which has those of each alternative."""
    alternatives = getattr(error.kind, "context", ())
    return 1 + sum(_with_nested(inner) for alternative in alternatives for inner in alternative)


class TestReferences:
    """A reference leads to a place within the schema, never back to itself."""

    def test_within_the_schema(self) -> None:
        names = {"a b": "a%20b", "Größe": "Gr%C3%B6%C3%9Fe", "a/~b": "a~1~0b", "%20": "%2520"}
        for name, written in names.items():
            schema = {"$defs": {name: {"type": "string"}}, "properties": {"x": {"$ref": f"#/$defs/{written}"}}}
            check_cost(schema)
            assert errors(schema, {"x": 1}) == {("type", "x")}

    @pytest.mark.parametrize(
        ("schema", "detail"),
        [
            ({"items": {"$ref": "#"}}, "refers to itself"),
            ({"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}, "refers to itself"),
            ({"$ref": "https://example.com/schema"}, "only places within the schema"),
            ({"$ref": "#/$defs/none"}, "there is no schema at '#/\\$defs/none'"),
            ({"$recursiveRef": "#"}, "`\\$recursiveRef` is not supported"),
        ],
    )
    def test_refused(self, schema: JSONObject, detail: str) -> None:
        with pytest.raises(InvalidSchema, match=detail):
            check_cost(schema)

    def test_references_that_branch_are_counted(self) -> None:
        defs: JSONObject = {"0": {"type": "string"}}
        for level in range(1, 20):
            target = {"$ref": f"#/$defs/{level - 1}"}
            defs[str(level)] = {"anyOf": [target, target]}
        with pytest.raises(InvalidSchema, match="more than 10000 parts"):
            check_cost({"$defs": defs, "$ref": "#/$defs/19"})
