"""The reference is correct: its tables match those of the code."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import attrs
import pytest
from adapter_helpers import serve
from pages import ROOT, SOURCE, as_whole, code_in, page
from sdk.report import END, SDKS, START
from trackcore_delivery import DeliveredDestination, Secret
from trackcore_http import HttpConfig, responses, segments_name
from trackcore_http.routes import ROUTES, ROUTES_WITH_KEY, find_route
from trackcore_server import Configuration, KafkaLogSettings, LogSettings, ServerSettings, parse_configuration
from trackcore_server.config.configuration import DeliverySettings
from trackcore_server.config.debugger_token import TOKEN_CHARS
from trackcore_server.config.kinds import KINDS
from trackcore_server.config.metrics import MetricsSettings
from trackcore_server.config.privacy import AdminSettings, PrivacySettings
from trackcore_server.config.server import DebuggerSettings
from trackcore_server.config.sources import ConfiguredSource
from trackcore_server.hosting import rejections

from trackcore import DEFAULT_LIMITS, Destination, InvalidRequest, Limits, MemorySink, Reason, WarningCode, WriteKey

API = page("reference/http-api")
CODES = page("reference/codes")
CONFIGURATION = page("reference/configuration")
DEBUGGER = page("guides/debugger")
DESTINATIONS = page("guides/destinations")
KAFKA = page("guides/kafka")


def _expanded(path: str) -> list[str]:
    """Expand one pair of braces: `/v1/{a,b}` is `/v1/a` and `/v1/b`."""
    head, brace, rest = path.partition("{")
    if not brace:
        return [path]
    names, _, tail = rest.partition("}")
    return [f"{head}{name}{tail}" for name in names.split(",")]


class TestTables:
    def test_routes(self) -> None:
        """All routes, with their methods, and no others."""
        (table,) = API.tables_under("Routes")
        listed = {path: row[1] for row in table.rows for cell in code_in(row[0]) for path in _expanded(cell)}
        for path, known in ROUTES_WITH_KEY.items():
            method = listed.pop(path.replace("{writeKey}", "<writeKey>"))
            route = find_route(path.replace("{writeKey}", "abc123"))
            assert route == attrs.evolve(known, write_key=WriteKey("abc123"))
            assert known.methods[0] == method
        assert listed == {path: route.methods[0] for path, route in ROUTES.items()}

    def test_limits(self) -> None:
        (table,) = page("reference/limits").tables_under("Limits")
        listed = {code_in(row[0])[0]: int(row[1].replace(",", "")) for row in table.rows}
        assert listed == attrs.asdict(DEFAULT_LIMITS)

    def test_error_answers(self) -> None:
        (table,) = API.tables_under("Error answers")
        failures = [value for value in vars(responses).values() if isinstance(value, responses.Failure)]
        failures += responses.UNAVAILABLE.values()
        listed = {(row[0], *code_in(row[1]), row[2]) for row in table.rows if row[0] != "400"}
        assert listed == {(str(failure.status.value), failure.code, failure.message) for failure in failures}

    def test_the_headers_of_an_answer_that_asks_for_patience(self) -> None:
        """429 included; nothing contradicts it."""
        (carried,) = re.findall(r"((?:\d{3}|and|[,\s])+)carry\s(`[\w-]+`) and (`[\w-]+`)", API.text)
        answers = [responses.retry_later(failure, 5) for failure in responses.UNAVAILABLE.values()]
        assert {int(status) for status in re.findall(r"\d+", carried[0])} == {answer.status for answer in answers}
        for answer in answers:
            assert [f"`{name}`" for name, _ in answer.headers] == list(carried[1:])
        assert not re.search(r"(without|no) `(Retry-After|X-RateLimit-Reset)`", API.text)

    def test_the_answers_of_the_worker(self) -> None:
        listed = {code: int(status) for code, status in re.findall(r"`(\w+)`\s\((\d{3})\)", API.text)}
        found = [each for each in vars(rejections).values() if isinstance(each, rejections.Rejection)]
        ours = {rejection.code: rejection.status for rejection in found}
        assert listed | {"internal_error": HTTPStatus.INTERNAL_SERVER_ERROR} == ours

    def test_reason_codes(self) -> None:
        """All of them; those of a whole request apart from those of one message, as in `errors.py`."""
        of_requests, of_messages = CODES.tables_under("Reason codes")
        listed = [*of_requests.rows, *of_messages.rows]
        assert listed == [(f"`{reason}`", reason.sentence) for reason in Reason]
        assert of_messages.rows[0][0] == f"`{Reason.MESSAGE_TOO_LARGE}`"

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"batch": 1}', b" " * 524_289])
    def test_the_codes_of_requests(self, body: bytes) -> None:
        collector = serve(MemorySink()).app.collector
        with pytest.raises(InvalidRequest) as caught:
            collector.receive(body)
        assert f"`{caught.value.reason}`" in {row[0] for row in CODES.tables_under("Reason codes")[0].rows}

    def test_warnings(self) -> None:
        (table,) = CODES.tables_under("Warnings")
        assert list(table.rows) == [(f"`{warned}`", warned.sentence) for warned in WarningCode]

    def test_every_sdk_has_a_row(self) -> None:
        """`poe sdk` checks the content of the row against the live tests."""
        text = page("reference/sdks").text
        assert text.index(START) < text.index(END)
        table = page("reference/sdks").tables[0]
        listed = [(row[0], row[1]) for row in table.rows]
        assert listed == [(f"{sdk.title}: `{sdk.package}`", number) for sdk in SDKS for number in sdk.versions]


def _in_segments_names(settings: dict[str, Any]) -> dict[str, Any]:
    return {segments_name(name): value for name, value in settings.items()}


OBSOLETE = {"threads"}
"""Settings that are accepted, and have no effect any more."""


class TestConfiguration:
    DOCUMENT = tomllib.loads(CONFIGURATION.fence("toml"))

    @pytest.mark.parametrize(
        ("tables", "kind"),
        [
            ([DOCUMENT], Configuration),
            (DOCUMENT["sources"], ConfiguredSource),
            (DOCUMENT["destinations"], Destination),
            ([DOCUMENT["log"]], LogSettings),
            ([DOCUMENT["server"]], ServerSettings),
            ([DOCUMENT["delivery"]], DeliverySettings),
            ([DOCUMENT["debugger"]], DebuggerSettings),
            ([DOCUMENT["privacy"]], PrivacySettings),
            ([DOCUMENT["admin"]], AdminSettings),
            ([DOCUMENT["limits"]], Limits),
        ],
    )
    def test_it_has_every_key(self, tables: list[dict[str, Any]], kind: type) -> None:
        assert set().union(*tables) | OBSOLETE == {field.name for field in attrs.fields(kind)} | OBSOLETE

    def test_it_shows_the_defaults(self) -> None:
        configuration = parse_configuration(CONFIGURATION.fence("toml"))
        assert isinstance(configuration.log, LogSettings)
        assert configuration.delivery.path == attrs.evolve(configuration, delivery=DeliverySettings()).delivery_path
        shown = attrs.evolve(
            configuration,
            sources=(),
            destinations=(),
            log=attrs.evolve(configuration.log, keep=None),
            delivery=attrs.evolve(configuration.delivery, path=None),
            debugger=DebuggerSettings(),
            privacy=PrivacySettings(),
            server=attrs.evolve(configuration.server, analytics_js=None),
            admin=AdminSettings(),
            metrics=MetricsSettings(),
        )
        assert shown == Configuration()

    def test_it_shows_the_default_retry_rules(self) -> None:
        rules = self.DOCUMENT["sources"][0]["http"]
        backoff = rules.pop("backoffConfig") | {"statusCodeOverrides": {}}
        defaults = HttpConfig()
        assert rules.pop("rateLimitConfig") == _in_segments_names(attrs.asdict(defaults.rate_limit_config))
        assert backoff == _in_segments_names(attrs.asdict(defaults.backoff_config))
        assert rules == {"enabled": defaults.enabled}

    def test_the_length_of_a_token(self) -> None:
        assert f"a token of {TOKEN_CHARS} characters" in DEBUGGER.text


class TestKafka:
    DOCUMENT = tomllib.loads(KAFKA.fence("toml"))

    def test_it_has_every_key(self) -> None:
        assert self.DOCUMENT["log"].keys() == {field.name for field in attrs.fields(KafkaLogSettings)}

    def test_it_shows_the_defaults(self) -> None:
        log = parse_configuration(as_whole(KAFKA.fence("toml"))).log
        assert isinstance(log, KafkaLogSettings)
        bare = KafkaLogSettings(bootstrap_servers=log.bootstrap_servers)
        assert attrs.evolve(log, retention=None, client=bare.client) == bare


class TestDestinations:
    """The table of settings has every setting of every kind, with its default."""

    ROWS = page("reference/destinations").tables[0].rows

    def settings(self, kind: str) -> dict[str, str]:
        """Return the settings of a kind, each with its default in the table."""
        return {code_in(row[0])[0]: row[2] for row in self.ROWS if row[1] == "all" or kind in row[1].split(", ")}

    def test_the_example_has_every_kind(self) -> None:
        document = tomllib.loads(DESTINATIONS.fence("toml"))
        assert {destination["kind"] for destination in document["destinations"]} == KINDS.keys()

    def test_kinds(self) -> None:
        assert {name for row in self.ROWS for name in row[1].split(", ")} == {"all", *KINDS}

    @pytest.mark.parametrize("kind", KINDS)
    def test_settings(self, kind: str) -> None:
        assert self.settings(kind).keys() == {field.name for field in attrs.fields(KINDS[kind])}

    @pytest.mark.parametrize("kind", KINDS)
    def test_defaults(self, kind: str) -> None:
        """Writing a default down changes nothing; a `required` setting has none, and `none` means none."""
        listed = self.settings(kind)
        required = [field.name for field in attrs.fields(KINDS[kind]) if field.default is attrs.NOTHING]
        assert required == [name for name, default in listed.items() if default == "required"]
        bare = self.destination(kind, required)
        for name, default in listed.items():
            if default == "none":
                assert not getattr(bare, name)
            elif default != "required":
                assert self.destination(kind, required, f"{name} = {code_in(default)[0]}") == bare

    def destination(self, kind: str, required: Sequence[str], *lines: str) -> DeliveredDestination:
        """Read a destination with the required settings of a kind, and further lines."""
        values = {"url": "https://example.com", "bootstrap_servers": "example.com:9092"}
        required_lines = [f'{name} = "{values.get(name, "some-name")}"' for name in required]
        text = "\n".join([SOURCE, "[[destinations]]", f'kind = "{kind}"', *required_lines, *lines])
        (destination,) = parse_configuration(text).delivered
        return destination

    def test_secrets_are_named(self) -> None:
        configuration = parse_configuration(as_whole(DESTINATIONS.fence("toml")))
        secrets = [secret for item in configuration.delivered for _, secret in item.secrets()]
        assert secrets
        assert all(isinstance(secret, Secret) and secret.is_named for secret in secrets)


class TestArchitecture:
    def test_the_places_that_it_names_exist(self) -> None:
        (table,) = page("project/architecture").tables_under("Where is ...?")
        answers = [code_in(row[1]) for row in table.rows]
        assert len(answers) == 9
        assert [path for found in answers for path in found if "/" in path and not (ROOT / path).is_file()] == []
