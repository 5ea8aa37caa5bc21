"""The pytest plugin, in runs of pytest on small projects.

The project of most tests is a Flask shop that tracks with segment-analytics-python, as an app would.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SHOP = """
import os

import segment.analytics as analytics
from flask import Flask, request

MISTAKE = os.environ.get("MISTAKE")


def create_app(segment_host, segment_write_key):
    app = Flask(__name__)
    tracker = analytics.Client(segment_write_key, host=segment_host, upload_interval=0.05)
    app.flush = tracker.flush

    @app.post("/consent")
    def consent():
        if MISTAKE == "before consent":
            tracker.page("u1", name="Consent")
        tracker.track("u1", "Consent Given")
        return "Thanks"

    @app.post("/checkout")
    def checkout():
        events = ["Checkout Started", "Order Completed"]
        if MISTAKE == "wrong order":
            events.reverse()
        if MISTAKE == "missing event":
            events.remove("Order Completed")
        if MISTAKE == "misspelt name":
            events[-1] = "Order Complete"
        if MISTAKE == "sent twice":
            events.append("Order Completed")
        user = "session-77" if MISTAKE == "wrong user" else "u1"
        total = "9.50" if MISTAKE == "wrong type" else 9.5
        for event in events:
            tracker.track(user, event, {"total": total})
        return "Thanks"

    return app
"""

TEST = """
import pytest
from shop import create_app


@pytest.fixture
def client(tracking):
    app = create_app(segment_host=tracking.url, segment_write_key=tracking.write_key)
    yield app.test_client()
    app.flush()


def test_checkout(tracking, client):
    client.post("/consent")
    client.post("/checkout")
    tracking.assert_tracked("Order Completed", user_id="u1", properties={"total": 9.5}, count=1)
    tracking.assert_in_order(["Consent Given", "Checkout Started", "Order Completed"])
    tracking.assert_nothing_before("Consent Given")
"""

REJECTED = """
from urllib.request import Request, urlopen


def test_it(tracking):
    urlopen(Request(f"{tracking.url}/v1/track", b'{"userId": "u1", "writeKey": "test-write-key"}'))
"""


ALONE = ("--disable-plugin-autoload", "-p", "trackcore_pytest")
"""Options of runs in a process of their own, which other plugins of this environment would slow down."""


@pytest.fixture(name="shop")
def _shop(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with a shop and its test, and without a conftest."""
    pytester.makepyfile(shop=SHOP, test_shop=TEST)
    pytester.syspathinsert()
    return pytester


class TestAShop:
    """The conftest of a shop becomes `def test_checkout(tracking, client)`."""

    def test_it_passes_without_a_conftest(self, shop: pytest.Pytester) -> None:
        shop.runpytest().assert_outcomes(passed=1)

    @pytest.mark.parametrize(
        ("mistake", "lines"),
        [
            (
                "missing event",
                ['E*no matching track "Order Completed" was received', "E * 2 messages received in 1 request:"],
            ),
            ("misspelt name", ['E * - event * "Order Completed"', 'E * + event * "Order Complete"']),
            ("wrong type", ["E * - properties.total  9.5", 'E * + properties.total  "9.50"']),
            ("wrong user", ['E * - userId * "u1"', 'E * + userId * "session-77"']),
            ("sent twice", ['E*track "Order Completed" was received twice, not once']),
            ("before consent", ['E*1 message before "Consent Given"*', 'E *>  1  page * "Consent" *']),
            ("wrong order", ['E * + "Order Completed"', 'E *   "Checkout Started"', 'E * - "Order Completed"']),
        ],
    )
    def test_a_mistake_fails_it_with_the_difference(
        self, shop: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, mistake: str, lines: list[str]
    ) -> None:
        monkeypatch.setenv("MISTAKE", mistake)
        result = shop.runpytest("-o", "trackcore_timeout=1")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(lines)

    def test_the_line_of_the_test_is_shown_and_none_of_the_kit(
        self, shop: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MISTAKE", "missing event")
        result = shop.runpytest("-o", "trackcore_timeout=0.1")
        shown = re.findall(r"^(\S+\.py):\d+: ", result.stdout.str(), re.MULTILINE)
        assert shown == ["test_shop.py"]


class TestRejections:
    """A test fails at its end when something was rejected; `allow_rejections` marks those that are expected."""

    def test_they_fail_the_test_at_its_end(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(REJECTED)
        result = pytester.runpytest()
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(
            [
                "* ERROR at teardown of test_it *",
                "1 rejection, 0 requests with an unknown write key",
                "event_not_defined at event: a track message needs 'event'",
                "    remedy: Send the name of the action in `event`*",
                "If that is expected: @pytest.mark.allow_rejections(codes=[[]...[]])",
            ]
        )

    @pytest.mark.parametrize(
        ("mark", "errors"),
        [
            ("allow_rejections", 0),
            ("allow_rejections(codes=['event_not_defined'])", 0),
            ("allow_rejections(codes=['no_user_anon_id'])", 1),
            ("allow_rejections(codes=['event_not_defnied'])", 1),
        ],
    )
    def test_a_mark_allows_them(self, pytester: pytest.Pytester, mark: str, errors: int) -> None:
        pytester.makepyfile(f"import pytest\npytestmark = pytest.mark.{mark}\n{REJECTED}")
        pytester.runpytest("--strict-markers").assert_outcomes(passed=1, errors=errors)

    def test_marks_of_a_test_and_of_its_module_add_up(self, pytester: pytest.Pytester) -> None:
        marks = [f"pytest.mark.allow_rejections(codes=['{code}'])" for code in ("no_type", "event_not_defined")]
        pytester.makepyfile(f"import pytest\npytestmark = [{', '.join(marks)}]\n{REJECTED}")
        pytester.runpytest().assert_outcomes(passed=1)

    def test_the_mark_is_described(self, pytester: pytest.Pytester) -> None:
        pytester.runpytest("--markers").stdout.fnmatch_lines(["@pytest.mark.allow_rejections(codes=None): *"])

    @pytest.mark.parametrize("options", [["--trackcore-lenient"], ["-o", "trackcore_strict=false"]])
    def test_an_option_ignores_them(self, pytester: pytest.Pytester, options: list[str]) -> None:
        pytester.makepyfile(REJECTED)
        pytester.runpytest(*options).assert_outcomes(passed=1)

    def test_an_unknown_write_key_fails_the_test(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(REJECTED.replace("test-write-key", "another"))
        result = pytester.runpytest()
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(["unknown_source: a request came with the write key …, *"])


PLANNED = """
def test_it(tracking):
    from urllib.request import Request, urlopen
    import json
    message = {"userId": "u1", "event": "Order completed", "writeKey": tracking.write_key}
    urlopen(Request(tracking.url + "/v1/track", json.dumps(message).encode(), method="POST")).close()
    tracking.assert_tracked("Order completed")
"""


class TestPlans:
    """With `--trackcore-plan` a test fails when a message violates the plan."""

    @pytest.fixture(autouse=True)
    def _plan(self, pytester: pytest.Pytester) -> None:
        pytester.makefile(".yaml", plan="events: [{event: Order Completed}]")
        pytester.makepyfile(PLANNED)

    def test_a_violation_fails_the_test(self, pytester: pytest.Pytester) -> None:
        result = pytester.runpytest("--trackcore-plan", "plan.yaml")
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(
            [
                "not as planned:",
                "message 1 (*): event: plan_unplanned_event: `Order completed` is not planned; did you mean *",
            ]
        )

    def test_from_the_configuration(self, pytester: pytest.Pytester) -> None:
        pytester.makepyprojecttoml('[tool.pytest.ini_options]\ntrackcore_plan = "plan.yaml"')
        pytester.runpytest().assert_outcomes(passed=1, errors=1)

    def test_it_can_be_allowed(self, pytester: pytest.Pytester) -> None:
        mark = "import pytest\n@pytest.mark.allow_rejections(codes=['plan_unplanned_event'])\n"
        pytester.makepyfile(mark + PLANNED.strip())
        pytester.runpytest("--trackcore-plan", "plan.yaml").assert_outcomes(passed=1)

    def test_without_a_plan_nothing_is_checked(self, pytester: pytest.Pytester) -> None:
        pytester.runpytest().assert_outcomes(passed=1)


class TestSettings:
    def test_sources_destinations_limits_and_timeout(self, pytester: pytest.Pytester) -> None:
        pytester.makepyprojecttoml(
            """
            [tool.pytest.ini_options]
            trackcore_sources = ["website", "app = app-key"]
            trackcore_destinations = ["Mixpanel"]
            trackcore_limits = ["message_bytes = 100", "depth=9"]
            trackcore_timeout = "0.5"
            """
        )
        pytester.makepyfile(
            """
            def test_it(tracking, tracking_server):
                assert tracking.write_keys == {"website": "website-write-key", "app": "app-key"}
                assert tracking_server.write_key == "website-write-key"
                assert [one.name for one in tracking.collector.destinations] == ["Mixpanel"]
                assert (tracking.collector.limits.message_bytes, tracking.collector.limits.depth) == (100, 7)
                assert tracking._timeout == 0.5
            """
        )
        pytester.runpytest("--trackcore-limit", "depth=7").assert_outcomes(passed=1)

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (["--trackcore-limit", "bytes=1"], "'bytes' is not a limit; there are: request_bytes, *"),
            (["--trackcore-limit", "depth=x"], "'depth=x' is not a limit with a whole number*"),
            (["--trackcore-limit", "depth=0"], "'depth' must be > 0: 0"),
            (["--trackcore-plan", "none.yaml"], "*No such file or directory: 'none.yaml'"),
            (["-o", "trackcore_timeout=soon"], "could not convert string to float: 'soon'"),
            (["-o", "trackcore_sources=web=a:b"], "write_keys[[]0[]]: a write key cannot have a colon*"),
        ],
    )
    def test_one_that_is_not_valid(self, pytester: pytest.Pytester, options: list[str], sentence: str) -> None:
        pytester.makepyfile("def test_it(tracking): pass")
        result = pytester.runpytest(*options)
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines([f"a setting of trackcore is not valid: {sentence}"])

    @pytest.mark.parametrize(("scope", "servers"), [("session", 1), ("module", 2), ("function", 3)])
    def test_the_scope_of_the_server(self, pytester: pytest.Pytester, scope: str, servers: int) -> None:
        """A session-wide server is the default: programs that read its address once can use it in each test."""
        test = "def test_{0}(tracking):\n    print('URL', tracking.url, tracking.messages)\n"
        pytester.makepyfile(test_one=test.format(1) + test.format(2), test_two=test.format(3))
        result = pytester.runpytest("-s", "-o", f"trackcore_scope={scope}")
        result.assert_outcomes(passed=3)
        assert len(set(re.findall(r"URL (\S+) \[\]", result.stdout.str()))) == servers

    def test_a_server_that_is_started_before_the_tests(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(
            """
            import pytest
            from segment.analytics import Client

            @pytest.fixture(scope="session")
            def app(tracking_server):
                return Client(tracking_server.write_key, host=tracking_server.url, sync_mode=True)

            @pytest.mark.parametrize("event", ["Paid", "Refunded"])
            def test_it(tracking, app, event):
                app.track("u1", event)
                assert [message.event for message in tracking.messages] == [event]
            """
        )
        pytester.runpytest().assert_outcomes(passed=2)


class TestOtherPlugins:
    def test_each_worker_of_xdist_has_a_port_of_its_own(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(
            """
            import os
            from pathlib import Path
            from urllib.request import Request, urlopen
            import pytest

            @pytest.mark.parametrize("n", range(3))
            def test_it(tracking, n):
                body = b'{"userId": "u1", "event": "Paid", "writeKey": "test-write-key"}'
                urlopen(Request(f"{tracking.url}/v1/track", body))
                tracking.assert_tracked("Paid", count=1)
                Path("ports", f"{os.environ['PYTEST_XDIST_WORKER']} {tracking.url[7:]}").touch()
            """
        )
        pytester.mkdir("ports")
        pytester.runpytest_subprocess(*ALONE, "-p", "xdist", "-n", "2", "--dist", "each").assert_outcomes(passed=6)
        workers, urls = zip(*(file.name.split() for file in (pytester.path / "ports").iterdir()), strict=True)
        assert (len(set(workers)), len(set(urls))) == (2, 2)

    def test_it_can_be_switched_off(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile("def test_it(tracking): pass")
        result = pytester.runpytest("-p", "no:trackcore")
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["E *fixture 'tracking' not found"])
        assert "trackcore" not in pytester.runpytest("-p", "no:trackcore", "--markers").stdout.str()

    def test_a_fixture_of_a_project_takes_its_place(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(
            "import pytest\n@pytest.fixture\ndef tracking(): return 5\ndef test_it(tracking): assert tracking == 5"
        )
        pytester.runpytest().assert_outcomes(passed=1)

    def test_warnings_as_errors(self, pytester: pytest.Pytester) -> None:
        """Nothing is left open at the end of a session."""
        pytester.makepyfile(
            """
            from urllib.request import Request, urlopen

            def test_it(tracking):
                with urlopen(f"{tracking.url}/health") as response:
                    assert response.status == 200
            """
        )
        pytester.runpytest_subprocess(*ALONE, "-W", "error").assert_outcomes(passed=1)


class TestInert:
    """Nothing of the kit is imported until a test asks for a fixture."""

    SCRIPT = """
import sys, pytest
code = pytest.main(["-q"])
kit = {"h11", "attrs", "msgspec", "cattrs"}
found = {name for name in sys.modules if name.partition(".")[0] in kit or name.startswith("trackcore")}
print(int(code), *sorted(found))
"""

    def loaded(self, folder: Path) -> list[str]:
        """Run pytest in a folder, and return its exit code and the modules of the kit that it has imported."""
        command = [sys.executable, "-P", "-c", self.SCRIPT]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[-1].split()

    def test_a_project_that_does_not_use_it(self, tmp_path: Path) -> None:
        (tmp_path / "test_it.py").write_text("def test_it(): pass\n")
        assert self.loaded(tmp_path) == ["0", "trackcore_pytest"]

    def test_a_missing_package_is_named(self, pytester: pytest.Pytester) -> None:
        pytester.makeconftest("import sys; sys.modules['h11'] = None")
        pytester.makepyfile("def test_it(tracking): pass")
        result = pytester.runpytest_subprocess(*ALONE)
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["h11 is not installed: pip install 'trackcore[[]testing[]]'"])


class TestWithoutPytest:
    """The same as a context manager, for unittest and scripts."""

    def test_unittest(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(
            test_shop="""
            import sys
            import unittest
            from urllib.request import Request, urlopen
            from trackcore_testing import collecting

            class TestShop(unittest.TestCase):
                def setUp(self):
                    self.tracking = self.enterContext(collecting())

                def send(self, body):
                    urlopen(Request(f"{self.tracking.url}/v1/track", body)).close()

                def test_checkout(self):
                    self.send(b'{"userId": "u1", "event": "Paid", "writeKey": "test-write-key"}')
                    self.tracking.assert_tracked("Paid", user_id="u1")

                def test_rejected(self):
                    self.send(b'{"userId": "u1", "writeKey": "test-write-key"}')

                def test_pytest_is_not_needed(self):
                    assert "pytest" not in sys.modules
            """
        )
        done = pytester.run(sys.executable, "-m", "unittest", "-v")
        done.stderr.fnmatch_lines_random(
            ["test_checkout *ok", "FAIL: test_rejected *", "AssertionError: 1 rejection, *", "FAILED (failures=1)"]
        )
