"""The guide on testing is correct: its Python runs, its outputs are the real ones, its tables match the code."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
import yaml
from guides import GUIDE, fences, rows
from kit_client import Client
from trackcore_server.cli._main import main
from trackcore_testing import TEST_SOURCES, Tracking
from trackcore_testing.assertions import Assertions
from trackcore_testing.control import _ROUTES

pytest_plugins = ["pytester"]

SHOP, TEST, FASTAPI = fences("pytest", "python")
NAMES = re.compile(r"`(?:tracking\.)?(\w+)")
NOT_IN_ITS_TABLE = {"wait_for", "wait_for_count", "wait_until_quiet", "received", "find"}


@pytest.fixture(name="shop")
def _shop(pytester: pytest.Pytester) -> pytest.Pytester:
    """The project of the guide."""
    pytester.makepyfile(shop=SHOP)
    pytester.syspathinsert()
    return pytester


class TestItsCode:
    def test_the_shop(self, shop: pytest.Pytester) -> None:
        shop.makepyfile(test_shop=TEST)
        shop.runpytest().assert_outcomes(passed=1)

    def test_the_output_of_a_failure(self, shop: pytest.Pytester) -> None:
        shop.makepyfile(test_shop=TEST, shop=SHOP.replace("9.5", '"9.50"'))
        result = shop.runpytest("-o", "trackcore_timeout=2")
        result.assert_outcomes(failed=1)
        shown = [line.removeprefix("E").strip() for line in result.outlines if line.startswith("E ")]
        (text,) = fences("pytest", "text")
        assert shown == [line.strip() for line in text.splitlines()]

    def test_the_app_in_fastapi(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(FASTAPI)
        result = pytester.runpytest("-W", "ignore")  # Starlette's client warns of a package that is to replace httpx
        result.assert_outcomes(passed=1)

    def test_the_outage(self, pytester: pytest.Pytester) -> None:
        (text,) = fences("Failures", "python")
        pytester.makepyfile(text)
        pytester.runpytest("-o", "trackcore_timeout=60").assert_outcomes(passed=1)

    def test_unittest(self, shop: pytest.Pytester) -> None:
        (text,) = fences("unittest and scripts", "python")
        shop.makepyfile(test_shop=text)
        done = shop.run(sys.executable, "-m", "unittest")
        assert done.ret == 0, done.stderr.str()

    def test_the_output_of_a_rejection(self, tracked: Tracking, client: Client) -> None:
        client.post("/v1/batch", {"batch": [{"userId": "u1", "type": "track"}]})
        (text,) = fences("Rejected messages", "text")
        assert tracked.unexpected_rejections() == text.rstrip()


class TestItsTables:
    def test_assertions(self) -> None:
        listed = {name for row in rows("Assertions") for name in NAMES.findall(row[0])}
        methods = {name for name, _ in inspect.getmembers(Assertions, inspect.isfunction) if not name.startswith("_")}
        assert {name for name in listed if name.startswith("assert_")} == methods - NOT_IN_ITS_TABLE

    @pytest.mark.parametrize("heading", ["Reading", "Failures"])
    def test_attributes_and_methods(self, tracked: Tracking, heading: str) -> None:
        listed = {name for row in rows(heading) for name in NAMES.findall(row[0])} - {"status", "times"}
        assert listed
        assert [name for name in listed if not hasattr(tracked, name)] == []

    def test_everything_public_is_there(self) -> None:
        text = GUIDE.read_text(encoding="utf-8")
        public = {name for name, _ in inspect.getmembers(Tracking) if not name.startswith("_")}
        assert [name for name in public - {"received", "find"} if name not in text] == []

    def test_routes(self) -> None:
        listed = {tuple(row[0].strip("`").split(" ")) for row in rows("Other languages")}
        served = {(method, path) for path, actions in _ROUTES.items() for method in actions}
        assert listed == served - {("GET", "/test/openapi.json")}


class TestItsWorkflow:
    """GitHub Actions: annotations with `--format github`, and JUnit with `--format junit`, over JSON Lines."""

    @pytest.mark.parametrize(("fields", "code"), [({"userId": "u1"}, 0), ({}, 1)])
    def test_its_commands(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, str], code: int
    ) -> None:
        monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        message = {"type": "track", "event": "Order Completed", **fields}
        (tmp_path / "messages.jsonl").write_text(f"{json.dumps(message)}\n")
        (text,) = fences("Files in CI", "yaml")
        steps = yaml.safe_load(text)["jobs"]["tracking"]["steps"]
        commands = [step["run"] for step in steps if step.get("run", "").startswith("trackcore ")]
        done = [
            subprocess.run(["bash", "-e", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
            for command in commands
        ]
        assert [one.returncode for one in done] == [code, code]
        annotation = "::error file=messages.jsonl,line=1,title=no_user_anon_id::"
        assert done[0].stdout.startswith(annotation) == bool(code)
        assert f'failures="{code}"' in (tmp_path / steps[-1]["with"]["path"]).read_text()


class TestItsSettings:
    def test_they_are_the_defaults(self, pytester: pytest.Pytester) -> None:
        (text,) = fences("Settings", "toml")
        settings = tomllib.loads(text)["tool"]["pytest"]["ini_options"]
        pytester.makepyprojecttoml(text)
        pytester.makepyfile(
            f"""
            def test_it(pytestconfig, tracking):
                for name, value in {settings!r}.items():
                    assert pytestconfig.getini(name) == value
                assert tracking.write_keys == {{"test": {TEST_SOURCES[0].write_keys[0]!r}}}
            """
        )
        pytester.runpytest().assert_outcomes(passed=1)
        helped = pytester.runpytest("--help").stdout.str()
        assert set(re.findall(r"^  (trackcore_\w+) ", helped, re.MULTILINE)) == set(settings)
        pytester.path.joinpath("pyproject.toml").unlink()
        pytester.makepyfile(
            f"""
            def test_it(pytestconfig):
                for name, value in {settings!r}.items():
                    assert name == "trackcore_sources" or pytestconfig.getini(name) == value
            """
        )
        pytester.runpytest().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    "line",
    [line for line in GUIDE.read_text(encoding="utf-8").splitlines() if "trackcore " in line and "`" not in line],
)
def test_commands_exist_with_their_options(line: str) -> None:
    _, _, command = line.partition("trackcore ")
    name, *arguments = shlex.split(re.split(r"[>&#\"]", command)[0])
    assert isinstance(main, click.Group)
    main.commands[name].make_context(name, arguments)


def test_its_anchors_are_there() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    anchors = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    assert set(re.findall(r"\(#([\w-]+)\)", text)) <= anchors
