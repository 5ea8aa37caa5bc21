"""The configuration of destinations that are delivered to, and mistakes in it."""

import io
import logging
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from delivery_helpers import NOON, envelopes, fed, store
from delivery_processes import Deployed
from trackcore_delivery import DeliveryResult, FileDestination, Secret, SegmentDestination, State, WebhookDestination
from trackcore_server import Configuration, ConfigurationError, load_configuration, parse_configuration
from trackcore_server.config.configuration import rebase
from trackcore_server.config.debugger_token import read_debugger_token
from trackcore_server.config.kafka_log import ClientSettings, named_secrets
from trackcore_server.delivery.service import check_destinations
from trackcore_server.process.log_lines import VisibleFormatter

from trackcore import Destination

WHOLE = """
[[destinations]]
name = "Plain"

[[destinations]]
name = "Hook"
max_age = "5d"
kind = "webhook"
url = "https://example.com/hook"
secret = "env:HOOK_SECRET"
headers = { Authorization = "env:TOKEN", "X-Team" = "red" }
gzip = true
timeout = "5s"
batch_messages = 100
batch_bytes = "1 MB"
batch_wait = "2s"
retry_window = "1d"
start = "newest"

[[destinations]]
name = "Mirror"
kind = "segment"
write_key = "abc"

[[destinations]]
name = "Archive"
kind = "file"
folder = "archive"
rotate_bytes = "1 GiB"

[delivery]
path = "state/delivery.db"
dead_letter_bytes = "1 MiB"
"""


def test_each_setting_is_read() -> None:
    configuration = parse_configuration(WHOLE)
    assert configuration.destinations == (
        Destination(name="Plain"),
        WebhookDestination(
            name="Hook",
            max_age=timedelta(days=5),
            url="https://example.com/hook",
            secret=Secret("env:HOOK_SECRET"),
            headers={"Authorization": Secret("env:TOKEN"), "X-Team": Secret("red")},
            gzip=True,
            timeout=timedelta(seconds=5),
            batch_messages=100,
            batch_bytes=1_000_000,  # type: ignore[arg-type]
            batch_wait=timedelta(seconds=2),
            retry_window=timedelta(days=1),
            start="newest",
        ),
        SegmentDestination(name="Mirror", write_key=Secret("abc")),
        FileDestination(name="Archive", folder=Path("archive"), rotate_bytes=1 << 30),  # type: ignore[arg-type]
    )
    assert [destination.name for destination in configuration.delivered] == ["Hook", "Mirror", "Archive"]
    assert configuration.delivery.dead_letter_bytes == 1 << 20


def test_the_state_is_beside_the_log_unless_it_is_said_where(tmp_path: Path) -> None:
    assert rebase(Configuration(), tmp_path).delivery_path == tmp_path / "trackcore-delivery.db"
    assert rebase(parse_configuration(WHOLE), tmp_path).delivery_path == tmp_path / "state" / "delivery.db"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('kind = "webhok"', "destinations[0].kind: there is no such kind of destination; did you mean 'webhook'?"),
        ('kind = "carrier pigeon"', "there are s3-archive, duckdb, file, kafka, parquet, postgres, segment, webhook"),
        ("kind = 3", "destinations[0].kind: there is no such kind of destination; there are s3-archive"),
        ('kind = ["webhook"]', "destinations[0].kind: there is no such kind of destination"),
        (
            'url = "http://a"',
            "destinations[0].url: unknown setting; valid settings: name, max_age, consent, default, kind",
        ),
        ('kind = "webhook"', "destinations[0].url: is missing"),
        ('kind = "webhook"\nurll = "http://a"', "destinations[0].urll: unknown setting; did you mean 'url'?"),
        ('kind = "webhook"\nurl = "ftp://a"', "destinations[0].url: expected a URL such as"),
        ('kind = "webhook"\nurl = "http://"', "destinations[0].url: expected a URL such as"),
        ('kind = "webhook"\nurl = "http://u:p@a"', "destinations[0].url: a password in a URL would appear"),
        ('kind = "webhook"\nurl = 3', "destinations[0].url: expected a string, found an integer"),
        ('kind = "webhook"\nurl = "http://a"\nsecret = "x"', "destinations[0].secret: a secret must not be written"),
        ('kind = "webhook"\nurl = "http://a"\nheaders = 3', "destinations[0].headers: expected a table"),
        ('kind = "webhook"\nurl = "http://a"\nheaders = {"a b" = "c"}', "destinations[0].headers: 'a b' cannot be set"),
        ('kind = "webhook"\nurl = "http://a"\nheaders = {Host = "c"}', "destinations[0].headers: 'Host' cannot be set"),
        (
            'kind = "webhook"\nurl = "http://a"\nbatch_messages = 0',
            "destinations[0].batch_messages: 'batch_messages' must be > 0",
        ),
        ('kind = "webhook"\nurl = "http://a"\nbatch_bytes = "many"', "destinations[0].batch_bytes: expected a number"),
        ('kind = "webhook"\nurl = "http://a"\nretry_window = 4', "destinations[0].retry_window: expected a string"),
        ('kind = "webhook"\nurl = "http://a"\ntimeout = "0s"', "destinations[0].timeout"),
        ('kind = "webhook"\nurl = "http://a"\nstart = "never"', "destinations[0].start: expected 'oldest' or 'newest'"),
        ('kind = "segment"\nurl = "http://a"', "destinations[0].write_key: is missing"),
        ('kind = "segment"\nwrite_key = "a"\nbatch_messages = 2501', "destinations[0].batch_messages"),
        ('kind = "file"', "destinations[0].folder: is missing"),
    ],
)
def test_a_mistake_is_reported_with_its_path(text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_configuration(f'[[destinations]]\nname = "There"\n{text}')
    assert expected in str(raised.value)


def test_a_mistake_in_the_delivery_table(tmp_path: Path) -> None:
    file = tmp_path / "trackcore.toml"
    file.write_text("[delivery]\ndead_letter_byte = 1")
    with pytest.raises(ConfigurationError, match=r"delivery\.dead_letter_byte: unknown setting"):
        load_configuration(file)


class TestCommands:
    """The output of the commands when there is nothing to show, or the arguments match nothing."""

    def test_without_a_log_nothing_is_made(self, deploy: Callable[..., Deployed]) -> None:
        deployed = deploy(WHOLE.partition("[delivery]")[0])
        for command in (["destinations"], ["dead-letters"], ["replay", "--destination", "Hook", "--since", "1d"]):
            assert "there is no log here" in deployed.ask(*command, code=2)[1]
        assert [file.name for file in deployed.folder.iterdir()] == ["trackcore.toml"]

    @pytest.mark.parametrize("command", [["dead-letters"], ["replay", "--since", "1d"]])
    def test_a_destination_that_is_not_there(self, deploy: Callable[..., Deployed], command: list[str]) -> None:
        deployed = deploy(WHOLE.partition("[delivery]")[0])
        store(deployed.log_path, envelopes(1))
        _, output = deployed.ask(*command, "--destination", "Hok", code=2)
        assert "did you mean 'Hook'?" in output

    def test_destinations_are_shown_with_what_waits_for_them(self, deploy: Callable[..., Deployed]) -> None:
        deployed = deploy(WHOLE.partition("[delivery]")[0])
        store(deployed.log_path, envelopes(3, destinations=("Hook", "Plain")))
        plain, hook, mirror, _ = deployed.ask("destinations")[0]
        assert plain == {"destination": "Plain", "kind": None, "state": "not delivered"}
        assert (hook["kind"], hook["state"], hook["lagMessages"]) == ("webhook", "stopped", 3)
        assert hook["lagSeconds"] > 0
        assert (mirror["lagMessages"], mirror["lagSeconds"]) == (0, 0)
        assert "stopped" in deployed.ask("destinations", "--format", "table")[1]

    def test_what_a_destination_answered_acts_on_no_terminal(self, deploy: Callable[..., Deployed]) -> None:
        """Nor is it markup, even if an older version stored it unescaped."""
        deployed = deploy(WHOLE.partition("[delivery]")[0])
        store(deployed.log_path, envelopes(1, destinations=("Hook",)))
        evil = "[red]no[/red]\x1b[31m\n\x9b31m\u202e\u2028\x7f"
        with closing(State(deployed.folder / "trackcore-delivery.db")) as state:
            state.begin("Hook", 0)
            state.fail("Hook", evil, now=NOON, attempts=[], failures=1, next_try_at=NOON)
            state.settle("Hook", DeliveryResult(messages=fed(1), refused={0: evil}, now=NOON))
        for command, name in (("destinations", "lastError"), ("dead-letters", "reason")):
            output, _ = deployed.ask(command)
            assert [record[name] for record in output if record.get(name)] == [evil]
            raw = deployed.ask(command, "--format", "jsonl")[1]
            assert not any(character in raw for character in "\x1b\x9b\u202e\u2028\x7f")
            table = deployed.ask(command, "--format", "table")[1]
            assert all(line.isprintable() for line in table.split("\n"))
            assert "[red]no[/red]\\x1b[31m" in table

    def test_what_nobody_delivers_is_reported(self, deploy: Callable[..., Deployed]) -> None:
        deployed = deploy(WHOLE.partition("[delivery]")[0])
        store(deployed.log_path, envelopes(3))
        _, told = deployed.ask("replay", "--destination", "Hook", "--since", "1d")
        assert told == (
            "Replay 1 will run as soon as `trackcore serve` or `trackcore deliver` runs: no process delivers now\n"
        )

    def test_options_that_exclude_each_other(self, deploy: Callable[..., Deployed]) -> None:
        deployed = deploy(WHOLE.partition("[delivery]")[0])
        assert "cannot be combined" in deployed.ask("dead-letters", "--retry", "--drop", code=2)[1]
        assert "apply to all dead letters" in deployed.ask("dead-letters", "--drop", "--limit", "1", code=2)[1]

    def test_what_a_destination_has_not_got_is_not_pruned(self, deploy: Callable[..., Deployed]) -> None:
        deployed = deploy(WHOLE.partition("[delivery]")[0])
        store(deployed.log_path, envelopes(4))
        assert "Deleted 0 messages" in deployed.ask("prune", "--older-than", "0s")[1]
        with closing(State(deployed.folder / "trackcore-delivery.db")) as state:
            for name, position in (("Hook", 3), ("Mirror", 2), ("Archive", 4)):
                state.begin(name, position)
        assert "Deleted 2 messages" in deployed.ask("prune", "--older-than", "0s")[1]
        assert [message["messageId"] for message in deployed.messages] == ["m2", "m3"]


UNFIT = ["key\n", " key", "key\r\n", "k\x00ey", "k\x9bey", "ключ", "\u00a0key", ""]


class TestSecrets:
    """A value that no header can carry stops the start with its place and variable, and is never quoted."""

    @pytest.mark.parametrize("value", UNFIT)
    @pytest.mark.parametrize(
        ("path", "text"),
        [
            ("destinations[0].write_key", 'kind = "segment"\nwrite_key = "env:VALUE"'),
            ("destinations[0].secret", 'kind = "webhook"\nurl = "http://a"\nsecret = "env:VALUE"'),
            ("destinations[0].headers.A", 'kind = "webhook"\nurl = "http://a"\nheaders = {A = "env:VALUE"}'),
        ],
    )
    def test_of_the_environment(self, path: str, text: str, value: str) -> None:
        configuration = parse_configuration(f'[[destinations]]\nname = "There"\n{text}')
        with pytest.raises(ConfigurationError) as raised:
            check_destinations(configuration, environ={"VALUE": value})
        output = str(raised.value)
        assert output.startswith(f"{path}: the environment variable VALUE ")
        assert not value or value not in output

    @pytest.mark.parametrize("value", ["key\\n", " key", "k\\u0000ey", "ключ"])
    @pytest.mark.parametrize(
        ("path", "text"),
        [
            ("destinations[0].write_key", 'kind = "segment"\nwrite_key = "{}"'),
            ("destinations[0].headers.A", 'kind = "webhook"\nurl = "http://a"\nheaders = {{A = "{}"}}'),
        ],
    )
    def test_of_the_file(self, path: str, text: str, value: str) -> None:
        with pytest.raises(ConfigurationError) as raised:
            parse_configuration(f'[[destinations]]\nname = "There"\n{text.format(value)}')
        assert str(raised.value).startswith(f"{path}: the value has ")
        assert value not in str(raised.value)

    @pytest.mark.parametrize("value", ["a:s3cr3t", "***", "s3cr3t\xad"])
    def test_the_write_key_of_the_other_side(self, value: str) -> None:
        """It must be a key that requests can carry: any other is lost there, with an answer of 200."""
        text = '[[destinations]]\nname = "There"\nkind = "segment"\nwrite_key = '
        with pytest.raises(ConfigurationError, match=r"^destinations\[0\]\.write_key: .*a write key|SDKs") as raised:
            parse_configuration(f'{text}"{value}"')
        assert value not in str(raised.value).replace("'***' is how", "")
        configuration = parse_configuration(f'{text}"env:VALUE"')
        pattern = r"^there\.toml: destinations\[0\]\.write_key: the environment variable VALUE is not usable: "
        with pytest.raises(ConfigurationError, match=pattern) as raised:
            check_destinations(configuration, Path("there.toml"), environ={"VALUE": value})
        assert value not in str(raised.value).replace("'***' is how", "")

    def test_an_empty_write_key_of_the_other_side(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^destinations\[0\]\.write_key: a write key cannot be empty$"):
            parse_configuration('[[destinations]]\nname = "There"\nkind = "segment"\nwrite_key = ""')

    def test_a_token_that_is_too_short_is_reported_with_its_file_and_variable(self) -> None:
        configuration = parse_configuration('[debugger]\ntoken = "env:VALUE"')
        pattern = (
            r"^there\.toml: debugger\.token: .*at least 12 characters, that of the environment variable VALUE has 5$"
        )
        with pytest.raises(ConfigurationError, match=pattern):
            read_debugger_token(configuration, {"VALUE": "short"}, file=Path("there.toml"))

    def test_the_token_of_the_debugger(self) -> None:
        configuration = parse_configuration('[debugger]\ntoken = "env:VALUE"')
        with pytest.raises(
            ConfigurationError, match=r"debugger\.token: the environment variable VALUE has white space"
        ):
            read_debugger_token(configuration, {"VALUE": "long-enough-token\n"})

    def test_a_certificate_for_kafka_may_have_lines(self) -> None:
        ((_, secret),) = named_secrets(ClientSettings({"ssl.key.pem": "env:VALUE"}))
        assert secret.reveal({"VALUE": "-----BEGIN\nx\n"}) == "-----BEGIN\nx\n"

    def test_write_keys_may_be_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text = '[[sources]]\nname = "website"\nwrite_keys = ["plain", "env:SITE_KEY"]'
        monkeypatch.setenv("SITE_KEY", "from-there")
        assert parse_configuration(text).sources[0].write_keys == ("plain", "from-there")
        for value in ("", "k\n", "a:b", "***"):
            monkeypatch.setenv("SITE_KEY", value)
            with pytest.raises(ConfigurationError, match=r"sources\[0\]\.write_keys\[1\]: "):
                parse_configuration(text)
        monkeypatch.delenv("SITE_KEY")
        with pytest.raises(ConfigurationError, match="the environment variable SITE_KEY is not set"):
            parse_configuration(text)

    def test_a_url_does_not_show_its_path_and_query(self) -> None:
        destination = WebhookDestination(name="There", url="https://example.com/T0KEN?k=T0KEN")
        assert "T0KEN" not in repr(destination)
        assert "example.com" in repr(destination)


def test_a_log_record_is_one_line_that_acts_on_no_terminal() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(VisibleFormatter())
    record = logging.LogRecord("x", logging.ERROR, "", 0, "%s", ("a\x1b[2J\u2028\nINFO fake",), None)
    error = ValueError("b\x9b\nINFO fake")
    record.exc_info = (ValueError, error, None)
    handler.emit(record)
    lines = stream.getvalue().rstrip("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    assert all(line.startswith("  ") for line in lines[1:])
