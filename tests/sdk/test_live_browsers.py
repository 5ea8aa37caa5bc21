"""analytics-next in real headless Chromium, on a page of another origin than the server, so that CORS is real.

From 1.84.0 on it sends the write key in `Authorization`, so every request is preflighted; 1.83.0 sends only requests
that need no preflight.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from sdk.browsers import BROWSER_SDKS, PACKAGE, BrowserSdk, visit
from sdk.cases import BROWSER_CASES, Case
from sdk.checks import check_no_retry, check_nothing_else
from sdk.comparing import check_browser_message
from sdk.results import record
from sdk.servers import WRITE_KEY, RecordedRequest, Server, run_server, wait_until

from trackcore import JSONObject, Query, StoredMessage

# Where analytics-next sends each call.
PATHS = {"identify": "/v1/i", "track": "/v1/t", "page": "/v1/p", "screen": "/v1/s", "group": "/v1/g", "alias": "/v1/a"}
SETTINGS_PATH = f"/v1/projects/{WRITE_KEY}/settings"
LEAVING = tuple(case for case in BROWSER_CASES if "31 KB" not in case.name)

each_sdk = pytest.mark.parametrize("sdk", BROWSER_SDKS, ids=lambda sdk: f"{PACKAGE} {sdk.version}")


@each_sdk
def test_plain_by_snippet(sdk: BrowserSdk, server: Server) -> None:
    """The snippet, with only the CDN host changed: the settings document names the address to send to.

    Each call is one request to its own path, and each path is preflighted once.
    """
    with visit(sdk, server, _calls(BROWSER_CASES), way="snippet") as page:
        _check_report(page.report(), BROWSER_CASES)
        _await_messages(server, len(BROWSER_CASES))
    _check_log(sdk, server, BROWSER_CASES, {})
    _check_requests(sdk, server, [PATHS[case.call] for case in BROWSER_CASES])
    assert sorted(server.events()) == sorted(case.call for case in BROWSER_CASES)
    record(PACKAGE, sdk.version, "calls")


@each_sdk
def test_plain_with_inline_settings(sdk: BrowserSdk, server: Server) -> None:
    """The npm package in a page's own bundle, with `cdnSettings` inline: no settings document is requested."""
    settings = {
        "integrations": {
            "Segment.io": {
                "apiKey": WRITE_KEY,
                "apiHost": f"{server.url.removeprefix('http://')}/v1",
                "protocol": "http",
            }
        }
    }
    with visit(sdk, server, _calls(BROWSER_CASES), way="bundle", cdn_settings=settings) as page:
        _check_report(page.report(), BROWSER_CASES)
        _await_messages(server, len(BROWSER_CASES))
    _check_log(sdk, server, BROWSER_CASES, {})
    _check_requests(sdk, server, [PATHS[case.call] for case in BROWSER_CASES], settings=0)
    record(PACKAGE, sdk.version, "inline settings")


@each_sdk
def test_batching(sdk: BrowserSdk, tmp_path: Path) -> None:
    """`deliveryStrategy: {strategy: "batching"}`: all calls in one request to /v1/b."""
    strategy = {"strategy": "batching", "config": {"size": len(BROWSER_CASES), "timeout": 60_000}}
    with run_server(tmp_path, tls=sdk.batches_by_https_only) as server:
        with visit(sdk, server, _calls(BROWSER_CASES), way="bundle", load_options=_delivering(strategy)) as page:
            _check_report(page.report(), BROWSER_CASES)
            _await_messages(server, len(BROWSER_CASES))
        _check_log(sdk, server, BROWSER_CASES, {"Segment.io": True})
        _check_requests(sdk, server, ["/v1/b"])
    record(PACKAGE, sdk.version, "batching")


@each_sdk
def test_leaving_with_a_batch_in_hand(sdk: BrowserSdk, tmp_path: Path) -> None:
    """The page is left while the SDK still has the batch: `pagehide` sends it by a keepalive request."""
    strategy = {"strategy": "batching", "config": {"size": 100, "timeout": 60_000}}
    with run_server(tmp_path, tls=sdk.batches_by_https_only) as server:
        with visit(
            sdk, server, _calls(LEAVING), way="bundle", load_options=_delivering(strategy), leave="buffered"
        ) as page:
            assert page.report()["logged"] == []
            _await_messages(server, len(LEAVING))
        _check_log(sdk, server, LEAVING, {"Segment.io": True})
        _check_requests(sdk, server, ["/v1/b"])
    record(PACKAGE, sdk.version, "leaving batching")


@each_sdk
def test_leaving_with_keepalive(sdk: BrowserSdk, server: Server) -> None:
    """The page is left while requests with `keepalive` are on their way on a slow network: all arrive, each once."""
    server.delay_requests(0.4)
    keepalive = {"config": {"keepalive": True}}
    with visit(sdk, server, _calls(LEAVING), way="bundle", load_options=_delivering(keepalive), leave="unsent") as page:
        assert page.report()["logged"] == []
        _await_messages(server, len(LEAVING))
    assert _stored_calls(server) == sorted(case.call for case in LEAVING)
    posts = server.posts()
    assert sorted(request.path for request in posts) == sorted(PATHS[case.call] for case in LEAVING)
    check_no_retry(posts)
    check_nothing_else(server, len(LEAVING))
    record(PACKAGE, sdk.version, "leaving keepalive")


@each_sdk
def test_leaving_without_keepalive(sdk: BrowserSdk, server: Server) -> None:
    """The page is left while plain requests are on their way: the next page of the site sends again what may be lost.

    Messages that were not lost arrive twice then, and are stored once: "De-duplication by (source, messageId)".
    """
    server.delay_requests(0.4)
    with visit(
        sdk,
        server,
        _calls(LEAVING),
        way="bundle",
        load_options=_delivering({}),
        leave="unsent",
        leave_to="/again.html",
    ) as page:
        assert page.report()["logged"] == []
        _await_messages(server, len(LEAVING))
    assert _stored_calls(server) == sorted(case.call for case in LEAVING)
    assert {request.status for request in server.requests()} == {200}
    check_nothing_else(server, len(LEAVING))
    record(PACKAGE, sdk.version, "leaving plain")


def _calls(cases: tuple[Case, ...]) -> list[JSONObject]:
    return [case.as_call() for case in cases]


def _delivering(strategy: JSONObject) -> JSONObject:
    return {"integrations": {"Segment.io": {"deliveryStrategy": strategy}}}


def _await_messages(server: Server, count: int) -> None:
    wait_until(lambda: server.count_messages() >= count, f"the arrival of {count} messages")


def _check_report(report: JSONObject, cases: tuple[Case, ...]) -> None:
    """The SDK and the browser report no errors, not about CORS either, which the browser would log."""
    assert report["errors"] == report["logged"] == []
    assert report["calls"] == report["resolved"] == len(cases)


def _check_log(sdk: BrowserSdk, server: Server, cases: tuple[Case, ...], integrations: JSONObject) -> None:
    stored = {_identity(found): found for found in server.log.messages(Query(source="live"))}
    assert len({found.message["anonymousId"] for found in stored.values()}) == 1
    check_nothing_else(server, len(cases))
    page = _page_of(server)
    known = False
    for case in cases:
        known = known or case.call == "identify"
        found = stored[case.fields.get("messageId") or case.fields["event"]]
        check_browser_message(case, found, version=sdk.version, page=page, integrations=integrations, known=known)


def _identity(stored: StoredMessage) -> str:
    message_id: str = stored.message["messageId"]
    made_by_sdk = message_id.startswith("ajs-next-")
    return str(stored.message["event"]) if made_by_sdk else message_id


def _page_of(server: Server) -> JSONObject:
    """Return the SDK's description of the page that the test opens."""
    origin = next(request.origin for request in server.requests() if request.origin)
    path = "/shop/%C3%A4.html"
    search = "?utm_source=t%C3%A9st&q=1"
    page = {"path": path, "referrer": "", "search": search, "title": "Café 😀", "url": f"{origin}{path}{search}"}
    return {
        "properties": page,
        "context": {"page": page, "campaign": {"source": "tést"}, "locale": "en-GB"},
    }


def _check_requests(sdk: BrowserSdk, server: Server, paths: list[str], *, settings: int = 1) -> None:
    """As many requests as calls, each path preflighted at most once, nothing sent again."""
    requests = server.requests()
    check_no_retry(requests)
    posts = [request for request in requests if request.method == "POST"]
    preflights = [request for request in requests if request.method == "OPTIONS"]
    gets = [request for request in requests if request.method == "GET"]
    assert [request.path for request in gets] == [SETTINGS_PATH] * settings
    assert sorted(request.path for request in posts) == sorted(paths)
    assert {request.content_type for request in posts} == {"text/plain"}
    assert all((request.authorization is not None) == sdk.sends_authorization for request in posts)
    assert {_origin_host(request) for request in requests} == {"localhost"}
    expected = sorted(set(paths)) if sdk.sends_authorization else []
    assert sorted(request.path for request in preflights) == expected
    assert {request.asked_headers for request in preflights} <= {"authorization"}


def _origin_host(request: RecordedRequest) -> str:
    return (request.origin or "").removeprefix("http://").partition(":")[0]


def _stored_calls(server: Server) -> list[str]:
    return sorted(found.call for found in server.log.messages(Query(source="live")))
