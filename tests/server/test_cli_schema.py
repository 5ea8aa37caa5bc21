"""`trackcore schema` prints a JSON Schema with the limits of the configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from jsonschema import Draft202012Validator

from trackcore.wire.schema import DIALECT


@pytest.mark.parametrize("call", ["identify", "track", "page", "screen", "group", "alias"])
def test_it_prints_the_schema_of_a_call(run: Callable[..., Result], call: str) -> None:
    schema = json.loads(run("schema", call).stdout)
    assert schema["$schema"] == DIALECT
    good = {"type": call, "userId": "u", "event": "E", "groupId": "g", "previousId": "p"}
    validator = Draft202012Validator(schema)
    assert validator.is_valid(good)
    assert not validator.is_valid({**good, "type": "other"})
    assert not validator.is_valid({**good, "userId": None})


def test_without_a_call_it_prints_that_of_any_message(run: Callable[..., Result]) -> None:
    validator = Draft202012Validator(json.loads(run("schema").stdout))
    assert validator.is_valid({"type": "page", "userId": "u"})
    assert validator.is_valid({"type": "alias", "userId": "u", "previousId": "p"})
    assert not validator.is_valid({"type": "track", "userId": "u"})


def test_a_batch_has_one_too(run: Callable[..., Result]) -> None:
    validator = Draft202012Validator(json.loads(run("schema", "batch").stdout))
    assert validator.is_valid({"batch": [{"type": "page", "userId": "u"}]})
    assert not validator.is_valid({"batch": [{"type": "page"}]})


def test_the_limits_are_those_of_the_configuration(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "trackcore.toml").write_text("[limits]\nmessage_id_chars = 36\n")
    assert json.loads(run("schema", "track").stdout)["properties"]["messageId"]["maxLength"] == 36


def test_an_unknown_call_is_a_usage_error(run: Callable[..., Result]) -> None:
    result = run("schema", "tracks")
    assert result.exit_code == 2
    assert "track" in result.stderr


class TestPlan:
    """`trackcore schema` and OpenAPI can include the plan of a source."""

    @pytest.fixture(autouse=True)
    def _configure(self, tmp_path: Path) -> None:
        sources = '[[sources]]\nname = "website"\nwrite_keys = ["secret-key"]\nplan = "plan.yaml"\n'
        (tmp_path / "trackcore.toml").write_text(f'{sources}[[sources]]\nname = "app"\nwrite_keys = ["other-key"]\n')
        (tmp_path / "plan.yaml").write_text(
            "events:\n  - {event: Paid, properties: {total: {type: number, required: true}}}\n"
            "identify: {traits: {email: string}}\n"
        )

    def test_of_a_call(self, run: Callable[..., Result]) -> None:
        validator = Draft202012Validator(json.loads(run("schema", "track", "--source", "website").stdout))
        good = {"type": "track", "userId": "u", "event": "Paid", "properties": {"total": 1}}
        assert validator.is_valid(good)
        assert not validator.is_valid({**good, "userId": None})
        assert not validator.is_valid({**good, "event": "paid"})
        assert not validator.is_valid({**good, "properties": {"total": "1"}})
        assert not validator.is_valid({**good, "properties": {"total": 1, "other": 1}})
        assert not validator.is_valid({name: value for name, value in good.items() if name != "properties"})

    def test_of_any_message_and_of_a_batch(self, run: Callable[..., Result]) -> None:
        wrong = {"type": "identify", "userId": "u", "traits": {"email": 1}}
        alias = {"type": "alias", "userId": "u", "previousId": "p"}
        validator = Draft202012Validator(json.loads(run("schema", "--source", "website").stdout))
        assert (validator.is_valid(wrong), validator.is_valid(alias)) == (False, True)
        validator = Draft202012Validator(json.loads(run("schema", "batch", "--source", "website").stdout))
        assert (validator.is_valid({"batch": [wrong]}), validator.is_valid({"batch": [alias]})) == (False, True)

    def test_in_openapi(self, run: Callable[..., Result]) -> None:
        text = run("schema", "--openapi", "--source", "website").stdout
        assert "secret-key" not in text
        schemas = json.loads(text)["components"]["schemas"]
        whole = {"$ref": "#/components/schemas/Batch", "components": {"schemas": schemas}}
        good = {"type": "track", "userId": "u", "event": "Paid", "properties": {"total": 1}}
        validator = Draft202012Validator(whole)
        assert validator.is_valid({"batch": [good]})
        assert not validator.is_valid({"batch": [{**good, "properties": {}}]})
        assert "plan.track_Paid" in schemas
        assert "Paid" not in run("schema", "--openapi").stdout

    @pytest.mark.parametrize(
        ("arguments", "code", "detail"),
        [
            (("--source", "shop"), 2, "there is no source 'shop'"),
            (("--source", "app"), 2, "the source 'app' has no tracking plan"),
            (("track", "--openapi"), 2, "--openapi describes all calls; leave out CALL"),
        ],
    )
    def test_mistakes(self, run: Callable[..., Result], arguments: tuple[str, ...], code: int, detail: str) -> None:
        result = run("schema", *arguments)
        assert (result.exit_code, detail in result.stderr) == (code, True), result.stderr
