"""Destinations that are off by default, in a real server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from served import Served

from trackcore import JSONObject

CONFIGURATION = """
[[sources]]
name = "website"
write_keys = ["key"]
[[destinations]]
name = "Mixpanel"
[[destinations]]
name = "Salesforce"
default = "off"
"""
OFF = "it is off by default, and integrations.Salesforce does not select it"


class TestOffByDefault:
    """Opt-in destinations (`default = "off"`: only where `integrations` names them, as the documentation's own
    `{All: true, Salesforce: false}`).
    """

    @pytest.fixture(name="explain")
    def _explain(
        self, serve: Callable[..., Served], run: Callable[..., Result], tmp_path: Path
    ) -> Callable[..., tuple[list[str], dict[str, Any]]]:
        """Send a message to a server; return where it goes, and the explanation for Salesforce."""
        (tmp_path / "trackcore.toml").write_text(CONFIGURATION)
        served = serve("--config", "trackcore.toml")

        def explain(integrations: JSONObject) -> tuple[list[str], dict[str, Any]]:
            message = {"type": "page", "userId": "u", "messageId": "m", "integrations": integrations}
            assert served.post("/v1/batch", {"batch": [message]}, "key")[0] == 200
            (stored,) = map(json.loads, run("events").stdout.splitlines())
            (explanation,) = map(json.loads, run("explain", "m").stdout.splitlines())
            return stored["destinations"], explanation["destinations"][1]

        return explain

    @pytest.mark.parametrize(
        ("integrations", "goes_to", "because", "sentence"),
        [
            ({}, ["Mixpanel"], "opt_in", OFF),
            ({"All": True}, ["Mixpanel"], "opt_in", OFF),
            ({"All": True, "Salesforce": False}, ["Mixpanel"], "by_name", "integrations.Salesforce is false"),
            (
                {"All": True, "Salesforce": True},
                ["Mixpanel", "Salesforce"],
                "by_name",
                "integrations.Salesforce is true",
            ),
            ({"All": False, "Salesforce": True}, ["Salesforce"], "by_name", "integrations.Salesforce is true"),
        ],
    )
    def test_only_its_name_selects_it(
        self, explain: Any, integrations: JSONObject, goes_to: list[str], because: str, sentence: str
    ) -> None:
        """`trackcore explain` names the reason."""
        destinations, found = explain(integrations)
        assert destinations == goes_to
        assert (found["destination"], found["because"], found["sentence"]) == ("Salesforce", because, sentence)
        assert found["chosen"] is ("Salesforce" in goes_to)
