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
