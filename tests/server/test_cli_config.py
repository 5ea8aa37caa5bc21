"""`trackcore config`: check the configuration, and show the settings in force."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from served import Served
from trackcore_server.config.configuration import examine_configuration

from trackcore.limits import DEFAULT_LIMITS

SOURCE = '[[sources]]\nname = "site"\nwrite_keys = ["write-key-1234"]\n'


@pytest.fixture
def check(run: Callable[..., Result], tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
    """Check a configuration file; return the exit code and the lines, without the name of the file."""

    def check_text(text: str) -> tuple[int, list[str]]:
        file = tmp_path / "c.toml"
        file.write_text(text)
        file.chmod(0o600)
        result = run("config", "check", "--config", file)
        assert result.stdout == ""
        return result.exit_code, [
            re.sub(rf"^{re.escape(str(file))}(:\d+)?: ", "", line) for line in result.stderr.splitlines()
        ]

    return check_text


class TestCheck:
    """As `nginx -t`: all mistakes at once, each with file and place."""

    def test_a_good_file(self, check: Callable[..., Any]) -> None:
        assert check(SOURCE) == (0, ["no mistakes; 1 source, 0 destinations"])

    def test_each_mistake_is_reported_with_its_place(self, check: Callable[..., Any]) -> None:
        text = """
            [[sources]]
            name = "a"
            write_kyes = ["k"]
            strict = 1
            [[sources]]
            name = "b"
            write_keys = ["k", "k"]
            destinations = ["Hok", "Bad"]
            [[destinations]]
            name = "Hook"
            kind = "webhook"
            url = "ftp://x"
            headers = {A = 1, B = 2, C = "c"}
            [[destinations]]
            name = "Bad"
            kind = "bigquery"
            [server]
            bind = "8080"
            worker = 2
            [sever]
        """
        code, lines = check(text)
        assert code == 1
        assert [line.partition(": ")[0] for line in lines[:-1]] == [
            "sever",
            "sources[0].write_kyes",
            "sources[0].strict",
            "destinations[0].url",
            "destinations[0].headers.A",
            "destinations[0].headers.B",
            "destinations[1].kind",
            "server.worker",
            "server.bind",
            "sources[1].write_keys[1]",
            "sources[1].destinations[0]",
        ]
        assert lines[-1] == "11 mistakes"

    def test_the_file_is_named_in_each_line(self, run: Callable[..., Result], tmp_path: Path) -> None:
        (tmp_path / "trackcore.toml").write_text("[sever]\n" + SOURCE)
        assert run("config", "check").stderr.startswith(
            "trackcore.toml:1: sever: unknown setting; did you mean 'server'?"
        )

    def test_text_that_is_not_toml(self, check: Callable[..., Any]) -> None:
        code, lines = check("a = \n")
        assert code == 1
        assert lines[0].startswith("is not TOML: ")
        assert "line 1" in lines[0]
        assert len(lines) == 2

    def test_no_source(self, check: Callable[..., Any]) -> None:
        assert check("")[1][0] == "sources: no source is configured, so no message could be stored"

    def test_a_mistake_in_all_sources_is_not_a_lack_of_sources(self, check: Callable[..., Any]) -> None:
        assert [line.partition(": ")[0] for line in check("[sources]")[1]] == ["sources", "1 mistake"]

    def test_mistakes_that_show_only_when_settings_are_used(
        self, check: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LINE", "secret\n")
        text = """
            [debugger]
            token = "short"
            [[destinations]]
            name = "Hook"
            kind = "webhook"
            url = "https://x.test"
            headers = {A = "env:LINE"}
            secret = "env:NO_SUCH_VARIABLE"
            [[destinations]]
            name = "A"
            kind = "file"
            folder = "archive"
            [[destinations]]
            name = "a"
            kind = "file"
            folder = "archive"
            [server]
            analytics_js = "standalone.js"
        """
        _, lines = check(SOURCE + text)
        assert [line.partition(": ")[0] for line in lines[:4]] == [
            "debugger.token",
            "server.analytics_js",
            "destinations[0].secret",
            "destinations[0].headers.A",
        ]
        assert not any("secret\\n" in line for line in lines)

    def test_mistakes_in_tracking_plans(self, check: Callable[..., Any], tmp_path: Path) -> None:
        """All at once, each with the file of the plan and the place in it."""
        plan = tmp_path / "plan.yaml"
        plan.write_text("events:\n  - event: A\n    descripton: a\n  - event: B\n    proprties: {}\n")
        second = SOURCE.replace("site", "app").replace("1234", "5678")
        assert check(f'{SOURCE}plan = "plan.yaml"\n{second}plan = "none.yaml"\n') == (
            1,
            [
                f"sources[0].plan: {plan}: events[0].descripton: unknown; did you mean 'description'?",
                f"sources[0].plan: {plan}: events[1].proprties: unknown; did you mean 'properties'?",
                f"sources[1].plan: {tmp_path / 'none.yaml'} cannot be read: No such file or directory",
                "3 mistakes",
            ],
        )

    def test_nothing_is_created(self, check: Callable[..., Any], tmp_path: Path) -> None:
        assert check(SOURCE + '[server]\ndata = "data"')[0] == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["c.toml"]

    def test_a_file_that_others_can_read_is_no_mistake(self, run: Callable[..., Result], tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        (tmp_path / "trackcore.toml").write_text(SOURCE)
        (tmp_path / "trackcore.toml").chmod(0o644)
        result = run("config", "check")
        assert result.exit_code == 0
        assert "no mistakes" in result.stderr

    @pytest.mark.parametrize("arguments", [[], ["--config", "none.toml"], ["--data", "elsewhere"]])
    def test_a_missing_file(self, run: Callable[..., Result], arguments: list[str]) -> None:
        assert run("config", "check", *arguments).exit_code == 2

    def test_it_agrees_with_the_server(self, check: Callable[..., Any], serve: Callable[..., Served]) -> None:
        """Exit code 0: the server would start with the file."""
        assert check(SOURCE + '[server]\ndata = "data"')[0] == 0
        assert serve("--config", "c.toml").get("/ready") == 200
        assert Path("data/trackcore.db").exists()


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "k", "All", "5d", "1 MiB", "webhook", "kafka"])
)
NAMES = st.sampled_from(
    [
        "sources",
        "destinations",
        "log",
        "server",
        "limits",
        "name",
        "write_keys",
        "kind",
        "bind",
        "",
        "a b",
        "x[0]",
        ".y",
    ]
)
DOCUMENTS = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4))


def toml_of(value: Any) -> str:
    """Return a value as inline TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{name}" = {toml_of(item)}' for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_of, value)) + "]"
    return f'"{value or ""}"' if isinstance(value, str | None) else str(value).lower()


@given(st.dictionaries(NAMES, DOCUMENTS))
def test_any_document_has_a_list_of_mistakes(document: dict[str, Any]) -> None:
    """Never an exception, and none only for what can be used."""
    text = "\n".join(f'"{name}" = {toml_of(value)}' for name, value in document.items())
    assert tomllib.loads(text).keys() == document.keys()
    _, mistakes = examine_configuration(text)
    assert all(mistake.detail for mistake in mistakes)


class TestShow:
    """Effective values, secrets hidden."""

    def show(self, run: Callable[..., Result], text: str, *arguments: str) -> Any:
        Path("trackcore.toml").write_text(text)
        result = run("config", "show", *arguments)
        assert result.exit_code == 0
        return tomllib.loads(result.stdout)

    def test_defaults_and_absolute_paths(self, run: Callable[..., Result], tmp_path: Path) -> None:
        shown = self.show(run, SOURCE)
        assert shown["server"] == {
            "data": str(tmp_path),
            "bind": "127.0.0.1:8080",
            "workers": 1,
            "proxy_hops": 0,
            "trusted_proxies": [],
            "proxy_header": "X-Forwarded-For",
            "prefix": "",
            "log": "text",
            "log_level": "info",
            "access_log": False,
            "unavailable_status": 503,
        }
        assert shown["log"]["path"] == str(tmp_path / "trackcore.db")
        assert shown["log"]["rejected_bytes"] == "256 MiB"
        assert shown["limits"]["request_bytes"] == "512 KiB"
        assert shown["limits"].keys() == {name for name in dir(DEFAULT_LIMITS) if not name.startswith("_")}

    def test_the_settings_of_a_source_for_sdks(self, run: Callable[..., Result]) -> None:
        """A source without a plan shows no controls of one: these could not be read again."""
        rules = '[sources.http.backoffConfig]\nmaxRetryCount = 5\nstatusCodeOverrides = {503 = "drop"}\n'
        (shown,) = self.show(run, f"{SOURCE}{rules}")["sources"]
        assert shown["http"]["backoffConfig"]["maxRetryCount"] == 5
        assert shown["http"]["backoffConfig"]["statusCodeOverrides"] == {"503": "drop"}
        assert shown["http"]["rateLimitConfig"]["enabled"] is True
        assert "plan_controls" not in shown

    def test_it_can_be_read_again(self, run: Callable[..., Result]) -> None:
        """Except for masked write keys and hidden secrets."""
        text = '[server]\ndata = "data"\n[limits]\nshared_bytes = 1000\n[log]\nkeep = "36h"\n'
        shown = self.show(run, text)
        assert self.show(run, run("config", "show").stdout) == shown
        assert shown["log"]["keep"] == "36h"
        assert shown["limits"]["shared_bytes"] == "1000 B"

    @pytest.mark.parametrize(
        ("consent", "table"),
        [
            ('["Ads"]', {"all": ["Ads"], "unknown": "allow"}),
            ('{any = ["Ads", "Maps"], unknown = "deny"}', {"any": ["Ads", "Maps"], "unknown": "deny"}),
        ],
    )
    def test_consent_can_be_read_again(self, run: Callable[..., Result], consent: str, table: Any) -> None:
        shown = self.show(run, f'{SOURCE}[[destinations]]\nname = "a"\nconsent = {consent}\n')
        assert shown["destinations"][0]["consent"] == table
        assert self.show(run, run("config", "show").stdout)["destinations"] == shown["destinations"]

    def test_secrets_are_hidden(self, run: Callable[..., Result]) -> None:
        text = """
            [debugger]
            token = "SECRET-token-1"
            [[destinations]]
            name = "Hook"
            kind = "webhook"
            url = "https://x.test/SECRET?token=SECRET"
            headers = {Authorization = "SECRET", Named = "env:NAMED"}
            [[destinations]]
            name = "Topic"
            kind = "kafka"
            bootstrap_servers = "localhost:9092"
            topic = "t"
            client = {"sasl.password" = "SECRET", "sasl.username" = "env:USER_NAME", "linger.ms" = 5}
        """
        shown = self.show(run, SOURCE.replace("write-key-1234", "keep-SECRET-12") + text)
        assert "SECRET" not in str(shown)
        assert shown["sources"][0]["write_keys"] == ["keep…"]
        assert shown["debugger"] == {"token": "(hidden)"}
        hook, topic = shown["destinations"]
        assert hook["kind"] == "webhook"
        assert hook["url"] == "https://x.test/…"
        assert hook["headers"] == {"Authorization": "(hidden)", "Named": "env:NAMED"}
        assert topic["client"] == {"sasl.password": "(hidden)", "sasl.username": "env:USER_NAME", "linger.ms": 5}

    def test_the_command_line_overrides_the_data_folder(self, run: Callable[..., Result], tmp_path: Path) -> None:
        shown = self.show(
            run, '[server]\ndata = "one"\n', "--config", "trackcore.toml", "--data", str(tmp_path / "two")
        )
        assert shown["server"]["data"] == str(tmp_path / "two")
        assert shown["log"]["path"] == str(tmp_path / "two" / "trackcore.db")
