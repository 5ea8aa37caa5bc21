from datetime import timedelta
from pathlib import Path

import attrs
import pytest
from trackcore_delivery import ByteCount
from trackcore_http import BackoffConfig, HttpConfig
from trackcore_server import (
    Configuration,
    ConfigurationError,
    LogSettings,
    ServerSettings,
    create_app,
    create_collector,
    load_configuration,
    parse_configuration,
)
from trackcore_server.config.deployment import create_configuration, find_deployment, with_write_keys
from trackcore_server.config.plans import PlannedSource
from trackcore_server.config.sources import ConfiguredSource
from trackcore_server.config.units import age_text, parse_age, parse_bind, parse_size, size_text
from werkzeug.test import Client

from trackcore import ConsentRule, Destination, Limits, Source

WHOLE = """
[[sources]]
name = "website"
write_keys = ["abc123", "def456"]
strict = true
destinations = ["Mixpanel"]

[[sources]]
name = "app"
write_keys = ["ghi789"]

[[destinations]]
name = "Mixpanel"
max_age = "5d"

[[destinations]]
name = "KISSmetrics"

[log]
path = "logs/all.db"
rejected_bytes = "1 GiB"
quarantine_bytes = 1000

[server]
bind = "0.0.0.0:80"
workers = 4
threads = 16
proxy_hops = 1
prefix = "/endpoint"

[limits]
request_bytes = "1 KB"
depth = 10
"""


def test_each_setting_is_read() -> None:
    assert parse_configuration(WHOLE) == Configuration(
        sources=(
            Source(name="website", write_keys=("abc123", "def456"), strict=True, destinations=("Mixpanel",)),
            Source(name="app", write_keys=("ghi789",)),
        ),
        destinations=(Destination(name="Mixpanel", max_age=timedelta(days=5)), Destination(name="KISSmetrics")),
        log=LogSettings(path=Path("logs/all.db"), rejected_bytes=ByteCount(1 << 30), quarantine_bytes=ByteCount(1_000)),
        server=ServerSettings(bind="0.0.0.0:80", workers=4, threads=16, proxy_hops=1, prefix="/endpoint"),
        limits=Limits(request_bytes=1_000, depth=10),
    )


def test_an_empty_configuration_has_the_defaults() -> None:
    assert parse_configuration("") == Configuration()
    assert Configuration().server.bind == "127.0.0.1:8080"
    assert Configuration().log.rejected_bytes == 256 * 1024 * 1024
    assert Configuration().log.quarantine_bytes == 64 * 1024 * 1024


SOURCE = '[[sources]]\nname = "a"\n'
CONSENT = '[[destinations]]\nname = "a"\nconsent = '

HTTP = SOURCE + 'write_keys = ["k"]\n[sources.http.backoffConfig]\n'
BACKOFF = "sources[0].http.backoffConfig"
MISTAKES = {
    "an unknown setting": (SOURCE + 'write_kyes = ["k"]', "sources[0].write_kyes", "did you mean 'write_keys'?"),
    "an unknown table": ("[sever]", "sever", "did you mean 'server'?"),
    "a name like nothing": ("[limits]\nxyzzy = 1", "limits.xyzzy", "request_bytes, message_bytes"),
    "text where an array belongs": (SOURCE + 'write_keys = "k"', "sources[0].write_keys", "array, found a string"),
    "a number among texts": (SOURCE + 'write_keys = ["k", 5]', "sources[0].write_keys[1]", "string, found an integer"),
    "a number for a boolean": (SOURCE + 'write_keys = ["k"]\nstrict = 1', "sources[0].strict", "expected a boolean"),
    "a boolean for a number": ("[server]\nthreads = true", "server.threads", "expected an integer, found a boolean"),
    "a number for a text": ("[[destinations]]\nname = 5", "destinations[0].name", "expected a string"),
    "one table for many": ('[sources]\nname = "a"', "sources", "[[...]]"),
    "a value for a table": ("server = 5", "server", "expected a table, found an integer"),
    "a missing name": ('[[sources]]\nwrite_keys = ["k"]', "sources[0].name", "is missing"),
    "an empty name": ('[[sources]]\nname = ""\nwrite_keys = ["k"]', "sources[0].name", "cannot be empty"),
    "no write key": (SOURCE, "sources[0].write_keys", "at least one"),
    "an empty write key": (SOURCE + 'write_keys = [""]', "sources[0].write_keys[0]", "cannot be empty"),
    "a write key of another": (
        SOURCE + 'write_keys = ["k"]\n[[sources]]\nname = "b"\nwrite_keys = ["j", "k"]',
        "sources[1].write_keys[1]",
        "already belongs to source 'a'",
    ),
    "a write key twice": (SOURCE + 'write_keys = ["k", "k"]', "sources[0].write_keys[1]", "already belongs"),
    "a source twice": (
        2 * (SOURCE + 'write_keys = ["k"]\n'),
        "sources[1].name",
        "'a' is already the name of sources[0]",
    ),
    "a destination twice": (2 * '[[destinations]]\nname = "a"\n', "destinations[1].name", "already"),
    "a destination named All": ('[[destinations]]\nname = "All"', "destinations[0].name", "all destinations"),
    "an unknown destination": (
        SOURCE + 'write_keys = ["k"]\ndestinations = ["Mixpanl"]\n[[destinations]]\nname = "Mixpanel"',
        "sources[0].destinations[0]",
        "did you mean 'Mixpanel'?",
    ),
    "a log that is a folder": ('[log]\npath = "."', "log.path", "expected the name of a file, found '.'"),
    "a log without a name": ('[log]\npath = ""', "log.path", "expected the name of a file"),
    "a state that is a folder": ('[delivery]\npath = "/"', "delivery.path", "expected the name of a file, found '/'"),
    "an age in words": ('[[destinations]]\nname = "a"\nmax_age = "5 days"', "destinations[0].max_age", "'5d'"),
    "consent as text": (CONSENT + '"Ads"', "destinations[0].consent", "expected an array of categories"),
    "consent without categories": (CONSENT + "[]", "destinations[0].consent", "at least one category"),
    "consent of a number": (CONSENT + "[1]", "destinations[0].consent[0]", "expected a string"),
    "consent with another key": (CONSENT + '{ani = ["Ads"]}', "destinations[0].consent.ani", "did you mean 'any'?"),
    "consent to all and any": (
        CONSENT + '{all = ["a"], any = ["b"]}',
        "destinations[0].consent",
        "either `all` or `any`",
    ),
    "consent to nothing": (CONSENT + '{unknown = "deny"}', "destinations[0].consent", "either `all` or `any`"),
    "consent of no kind": (CONSENT + '{all = ["a"], unknown = "no"}', "destinations[0].consent", "'allow' or 'deny'"),
    "a default of another kind": ('[[destinations]]\nname = "a"\ndefault = "no"', "destinations[0].default", "'off'"),
    "a default as a boolean": ('[[destinations]]\nname = "a"\ndefault = false', "destinations[0].default", "a string"),
    "no range": (
        '[server]\ntrusted_proxies = ["10.0.0.0/8", "x"]',
        "server.trusted_proxies",
        "number 2 is not a range",
    ),
    "a range with an address": ('[server]\ntrusted_proxies = ["10.0.0.1/8"]', "server.trusted_proxies", "not a range"),
    "another header": ('[server]\nproxy_header = "X-Real-IP"', "server.proxy_header", "'Forwarded'"),
    "hops and addresses": (
        '[server]\nproxy_hops = 1\ntrusted_proxies = ["::1"]',
        "server.trusted_proxies",
        "by their addresses or by `proxy_hops`",
    ),
    "a size of no unit": ('[log]\nrejected_bytes = "64"', "log.rejected_bytes", "'64 MiB'"),
    "a negative size": ("[log]\nquarantine_bytes = -1", "log.quarantine_bytes", "found -1"),
    "a bind without host": ('[server]\nbind = ":8080"', "server.bind", "HOST:PORT"),
    "a bind without port": ('[server]\nbind = "localhost"', "server.bind", "HOST:PORT"),
    "a port too high": ('[server]\nbind = "localhost:65536"', "server.bind", "HOST:PORT"),
    "no threads": ("[server]\nthreads = 0", "server.threads", ">= 1"),
    "a limit in words": ('[limits]\nrequest_bytes = "big"', "limits.request_bytes", "'64 MiB'"),
    "a limit of no bytes with a unit": ('[limits]\ndepth = "1 KB"', "limits.depth", "expected an integer"),
    "a limit of nothing": ("[limits]\nrequest_bytes = 0", "limits.request_bytes", "> 0"),
    "retries of no number": (HTTP + 'maxRetryCount = "5"', f"{BACKOFF}.maxRetryCount", "expected an integer"),
    "retries beyond the browser's": (HTTP + "maxRetryCount = 101", f"{BACKOFF}.maxRetryCount", "from 0 to 100"),
    "an interval of no number": (HTTP + 'baseBackoffInterval = "1"', f"{BACKOFF}.baseBackoffInterval", "a number"),
    "a fraction for Kotlin": (HTTP + "maxBackoffInterval = 0.5", f"{BACKOFF}.maxBackoffInterval", "an integer"),
    "a behaviour of no kind": (
        HTTP + 'default4xxBehavior = "no"',
        f"{BACKOFF}.default4xxBehavior",
        "'retry' or 'drop'",
    ),
    "a status of no kind": (
        HTTP + "statusCodeOverrides = {99 = 'drop'}",
        f"{BACKOFF}.statusCodeOverrides",
        "from 100 to 599",
    ),
    "a rule of no name": (HTTP + "maxRetries = 1", f"{BACKOFF}.maxRetries", "did you mean 'maxRetryCount'?"),
    "nothing without consent, and no destination": (
        SOURCE + 'write_keys = ["k"]\ncollect_without_consent = false',
        "sources[0].collect_without_consent",
        "it has no destination",
    ),
    "nothing without consent, and a destination without": (
        SOURCE + 'write_keys = ["k"]\ncollect_without_consent = false\n[[destinations]]\nname = "CRM"',
        "sources[0].collect_without_consent",
        "'CRM' has none",
    ),
    "another status": ("[server]\nunavailable_status = 500", "server.unavailable_status", "expected 503 or 429"),
    "no TOML": ("name =", "", "is not TOML"),
}


@pytest.mark.parametrize(("text", "path", "detail"), MISTAKES.values(), ids=MISTAKES)
def test_an_error_has_the_path_of_its_setting(text: str, path: str, detail: str) -> None:
    with pytest.raises(ConfigurationError, check=lambda error: error.path == path and detail in error.detail):
        parse_configuration(text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('["Ads", "Maps"]', ConsentRule(categories=["Ads", "Maps"])),
        ('{all = ["Ads"]}', ConsentRule(categories=["Ads"])),
        ('{any = ["Ads", "Maps"]}', ConsentRule(categories=["Ads", "Maps"], any_suffices=True)),
        ('{all = ["Ads"], unknown = "deny"}', ConsentRule(categories=["Ads"], unknown="deny")),
    ],
)
def test_the_consent_that_a_destination_needs(text: str, rule: ConsentRule) -> None:
    for kind in ("", '\nkind = "file"\nfolder = "archive"'):
        assert parse_configuration(CONSENT + text + kind).destinations[0].consent == rule


def test_an_error_in_a_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "trackcore.toml"
    file.write_text("[sever]")
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(file)
    assert str(caught.value) == f"{file}: sever: unknown setting; did you mean 'server'?"


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load_configuration(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(ConfigurationError, match="not UTF-8, at byte 2"):
        load_configuration(tmp_path / "latin.toml")


class TestWhereTheLogIs:
    def test_a_relative_path_is_relative_to_the_configuration(self, tmp_path: Path) -> None:
        (tmp_path / "c.toml").write_text('[log]\npath = "logs/all.db"')
        assert load_configuration(tmp_path / "c.toml").log.paths == (tmp_path / "logs/all.db",)

    def test_an_absolute_path_stands(self, tmp_path: Path) -> None:
        (tmp_path / "c.toml").write_text('[log]\npath = "/var/lib/all.db"')
        assert load_configuration(tmp_path / "c.toml").log.paths == (Path("/var/lib/all.db"),)

    def test_the_state_of_delivery_is_beside_the_log_wherever_that_is(self, tmp_path: Path) -> None:
        (tmp_path / "c.toml").write_text("")
        configuration = load_configuration(tmp_path / "c.toml")
        assert configuration.delivery_path == tmp_path / "trackcore-delivery.db"
        moved = attrs.evolve(configuration, log=LogSettings(path=Path("/var/lib/all.db")))
        assert moved.delivery_path == Path("/var/lib/all-delivery.db")

    def test_the_data_folder_of_the_server(self, tmp_path: Path) -> None:
        """The data folder is that of `--data`, else `data` under `[server]`, else the folder of the configuration."""
        (tmp_path / "c.toml").write_text('[server]\ndata = "data"\n[delivery]\npath = "state.db"')
        found = find_deployment(config=tmp_path / "c.toml", data=None)
        assert found.folder == tmp_path / "data"
        assert found.configuration.log.paths == (tmp_path / "data" / "trackcore.db",)
        assert found.configuration.delivery_path == tmp_path / "data" / "state.db"
        found = find_deployment(config=tmp_path / "c.toml", data=tmp_path / "other")
        assert found.configuration.log.paths == (tmp_path / "other" / "trackcore.db",)

    def test_files_to_read_are_beside_the_configuration_wherever_the_data_is(self, tmp_path: Path) -> None:
        """The paths of plans and of `analytics_js` are relative to the folder of the configuration file."""
        file = tmp_path / "etc" / "c.toml"
        file.parent.mkdir()
        planned = '[[sources]]\nname = "web"\nwrite_keys = ["k"]\nplan = "plan.yaml"\n'
        file.write_text(planned + '[server]\ndata = "../var"\nanalytics_js = "sdk.js"')
        for data in (None, tmp_path / "other"):
            found = find_deployment(config=file, data=data).configuration
            (source,) = found.sources
            assert isinstance(source, PlannedSource)
            assert (source.plan, found.server.analytics_js) == (file.parent / "plan.yaml", file.parent / "sdk.js")

    def test_data_folder_with_and_without_configuration(self, tmp_path: Path) -> None:
        assert find_deployment(config=None, data=tmp_path).configuration.log.paths == (tmp_path / "trackcore.db",)
        (tmp_path / "trackcore.toml").write_text('[log]\npath = "other.db"')
        assert find_deployment(config=None, data=tmp_path).configuration.log.paths == (tmp_path / "other.db",)

    def test_data_folder_beside_a_named_configuration(self, tmp_path: Path) -> None:
        (tmp_path / "c.toml").write_text("")
        found = find_deployment(config=tmp_path / "c.toml", data=tmp_path / "data")
        assert found.configuration.log.paths == (tmp_path / "data" / "trackcore.db",)

    def test_order_of_the_places(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def log_path() -> Path:
            (path,) = find_deployment(config=None, data=None).configuration.log.paths
            return path.relative_to(tmp_path)

        assert log_path() == Path("trackcore-data/trackcore.db")
        (tmp_path / "trackcore-data").mkdir()
        (tmp_path / "trackcore-data" / "trackcore.toml").write_text('[log]\npath = "1.db"')
        assert log_path() == Path("trackcore-data/1.db")
        (tmp_path / "trackcore.toml").write_text('[log]\npath = "2.db"')
        assert log_path() == Path("2.db")
        (tmp_path / "named.toml").write_text('[log]\npath = "3.db"')
        monkeypatch.setenv("TRACKCORE_CONFIG", "named.toml")
        assert log_path() == Path("3.db")


def test_a_new_configuration_is_private_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = create_configuration(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "trackcore.toml").stat().st_mode & 0o777 == 0o600
    (source,) = first.configuration.sources
    assert source.name == "default"
    assert len(source.write_keys[0]) >= 20
    assert create_configuration(folder) == first


def test_write_keys_of_the_command_line_become_sources() -> None:
    configuration = parse_configuration('[[sources]]\nname = "default"\nwrite_keys = ["a"]')
    added = with_write_keys(configuration, ["b", "a", "c", "b"]).sources
    assert [(source.name, source.write_keys) for source in added] == [
        ("default", ("a",)),
        ("default-2", ("b",)),
        ("default-3", ("c",)),
    ]


def test_an_app_without_configuration_reports_what_is_missing() -> None:
    with pytest.raises(ConfigurationError, match="set TRACKCORE_CONFIG"):
        create_app()


def test_an_app_reads_the_configuration_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "named.toml").write_text(WHOLE)
    monkeypatch.setenv("TRACKCORE_CONFIG", "named.toml")
    app = create_app()
    assert [source.name for source in app.collector.sources.sources] == ["website", "app"]
    assert app.collector.limits == Limits(request_bytes=1_000, depth=10)


def test_a_collector_needs_a_source() -> None:
    with pytest.raises(ConfigurationError, match="no source"):
        create_collector(Configuration())


@pytest.mark.parametrize(
    ("text", "age"),
    [("90s", timedelta(seconds=90)), ("30m", timedelta(minutes=30)), ("36h", timedelta(hours=36))],
)
def test_ages(text: str, age: timedelta) -> None:
    assert parse_age(text) == age


@pytest.mark.parametrize("text", ["", "5", "d", "-5d", "5.5h", "5w", "٣d", "9999999999d"])
def test_an_invalid_age(text: str) -> None:
    with pytest.raises(ValueError, match="expected an age"):
        parse_age(text)


@pytest.mark.parametrize(
    ("text", "size"), [("64 MiB", 64 << 20), ("500 KB", 500_000), ("1gib", 1 << 30), ("7 B", 7), ("2TB", 2 * 10**12)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "64", "MiB", "64 iB", "1.5 GB", "-1 KB", "64 MiBs"])
def test_an_invalid_size(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number of bytes"):
        parse_size(text)


@pytest.mark.parametrize("text", ["0s", "90s", "30m", "36h", "2d"])
def test_an_age_in_its_largest_unit(text: str) -> None:
    assert age_text(parse_age(text)) == text


@pytest.mark.parametrize("text", ["0 B", "1000 B", "512 KiB", "8 MiB", "3 GiB", "2 TiB"])
def test_a_size_in_its_largest_unit(text: str) -> None:
    assert size_text(parse_size(text)) == text


def test_addresses() -> None:
    assert parse_bind("localhost:0") == ("localhost", 0)
    assert parse_bind("[::1]:8080") == ("::1", 8080)


class TestWhatSdksFetch:
    """`[sources.http]` has the names of Segment; a source without settings of a server is a plain `Source`."""

    RULES = HTTP + 'maxRetryCount = 5\nbaseBackoffInterval = 1\nstatusCodeOverrides = {503 = "drop"}\n'

    def test_the_retry_rules_of_a_source(self) -> None:
        (source,) = parse_configuration(self.RULES).sources
        assert isinstance(source, ConfiguredSource)
        overrides = {"503": "drop"}
        backoff = BackoffConfig(max_retry_count=5, base_backoff_interval=1, status_code_overrides=overrides)
        assert source.http == HttpConfig(backoff_config=backoff)

    def test_switched_off(self) -> None:
        (source,) = parse_configuration(f'{SOURCE}write_keys = ["k"]\nhttp.enabled = false').sources
        assert isinstance(source, ConfiguredSource)
        assert source.http == HttpConfig(enabled=False)

    def test_defaults_are_no_setting(self) -> None:
        (source,) = parse_configuration(f'{SOURCE}write_keys = ["k"]\nhttp.enabled = true').sources
        assert type(source) is Source

    def test_the_app_has_them(self, tmp_path: Path) -> None:
        (tmp_path / "sdk.js").write_bytes(b"sdk")
        file = tmp_path / "trackcore.toml"
        file.write_text(self.RULES + '[server]\nanalytics_js = "sdk.js"\nunavailable_status = 429\n')
        client = Client(create_app(load_configuration(file)))
        document = client.get("/v1/projects/k/settings").get_json()
        assert document["integrations"]["Segment.io"]["httpConfig"]["backoffConfig"]["maxRetryCount"] == 5
        assert client.get("/analytics.js/v1/k/analytics.min.js").data == b"sdk"

    @pytest.mark.parametrize(("content", "detail"), [(None, "No such file"), (b"", "is empty")])
    def test_a_script_that_cannot_be_served(self, tmp_path: Path, content: bytes | None, detail: str) -> None:
        if content is not None:
            (tmp_path / "sdk.js").write_bytes(content)
        file = tmp_path / "trackcore.toml"
        file.write_text(HTTP + '[server]\nanalytics_js = "sdk.js"\n')
        with pytest.raises(
            ConfigurationError, check=lambda error: error.path == "server.analytics_js" and detail in error.detail
        ):
            create_app(load_configuration(file))
