"""A server under a prefix: removed by a proxy, named by a proxy, or set by `[server] prefix`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from trackcore_server import create_app, parse_configuration
from trackcore_server.app import ServerApp
from trackcore_server.config.configuration import ConfigurationError, rebase
from trackcore_wsgi import TrackingApp
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client, run_wsgi_app

TOKEN = "the-token-of-the-tests"  # noqa: S105 - of no server
ORIGIN = {"Origin": "http://localhost"}
CONFIGURATION = f"""
[[sources]]
name = "website"
write_keys = ["key"]
[debugger]
token = "{TOKEN}"
[server]
"""
MESSAGE = {"userId": "u", "event": "e", "writeKey": "key"}


def app_of(folder: Path, *settings: str) -> ServerApp:
    return create_app(rebase(parse_configuration(CONFIGURATION + "\n".join(settings)), folder))


def api_host(client: Client, folder: str, headers: dict[str, str] | None = None) -> str:
    document = client.get(f"{folder}/v1/projects/key/settings", headers=headers).get_json()
    return str(document["integrations"]["Segment.io"]["apiHost"])


class Stripping:
    """A proxy that removes a prefix, and optionally names it."""

    def __init__(self, app: Any, prefix: str, named: str | None = None) -> None:
        self.app, self.prefix, self.named = app, prefix, named

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        assert environ["PATH_INFO"].startswith(self.prefix)
        environ = {**environ, "PATH_INFO": environ["PATH_INFO"].removeprefix(self.prefix)}  # the test client reads it
        if self.named is not None:
            environ["HTTP_X_FORWARDED_PREFIX"] = self.named
        chunks, status, headers = run_wsgi_app(self.app, environ)
        start_response(status, list(headers))
        return chunks


def can_sign_in(app: Any, folder: str) -> bool:
    """Open the debugger as a browser does, which keeps cookies and follows the redirect to the page's folder."""
    client = Client(app)
    assert client.post(f"{folder}/v1/t", json=MESSAGE).status_code == 200  # creates the log
    redirect = client.get(f"{folder}/debugger")
    page = urljoin(f"http://localhost{folder}/debugger", redirect.headers["Location"])
    assert (page, client.get(page).status_code) == (f"http://localhost{folder}/debugger/", 401)
    signed_in = client.post(f"{folder}/debugger/session", json={"token": TOKEN}, headers=ORIGIN)
    assert signed_in.status_code == 200
    statuses = {client.get(f"{folder}/debugger/{path}").status_code for path in ("", "api/start")}
    client.delete(f"{folder}/debugger/session", headers=ORIGIN)
    assert client.get(f"{folder}/debugger/").status_code == 401
    return statuses == {200}


class TestPrefixOfTheServer:
    """With `prefix` everything is served below it as well, and printed addresses contain it."""

    PATHS = ("/health", "/ready", "/openapi.json", "/v1/projects/key/settings", "/v1/pixel/page", "/debugger/main.js")

    @pytest.mark.parametrize("folder", ["/endpoint", ""])
    def test_every_route_with_it_and_without_it(self, tmp_path: Path, folder: str) -> None:
        client = Client(app_of(tmp_path, 'prefix = "/endpoint"'))
        for path in ("/v1/b", "/v1/batch/", "/v1//batch"):
            assert client.post(folder + path, json={"batch": [], "writeKey": "key"}).status_code == 200
        doubled = {"PATH_INFO": f"/{folder}//v1/b"}
        assert client.post("/", json={"batch": []}, environ_overrides=doubled).status_code == 200
        assert client.post(f"{folder}/v1/t", json=MESSAGE).get_json() == {"success": True}
        for path in self.PATHS:
            assert client.get(folder + path).status_code == 200
        assert client.get(f"{folder}/nothing").status_code == 404
        assert api_host(client, folder) == "localhost/endpoint/v1"
        assert client.get(f"{folder}/openapi.json").get_json()["servers"] == [{"url": "/endpoint"}]

    @pytest.mark.parametrize("prefix", ["", "/a", "/a/b", "/a/b/c"])
    def test_doubled_slashes_anywhere(self, tmp_path: Path, prefix: str) -> None:
        """SDKs join base address and path in different ways, and drop messages that get a 404."""
        client = Client(app_of(tmp_path, f'prefix = "{prefix}"'))
        assert client.post(f"{prefix}/v1/t", json=MESSAGE).status_code == 200
        for path in (f"{prefix}/v1/pixel/page", f"{prefix}/health", f"{prefix}/debugger/main.js", "/debugger/main.js"):
            places = [place for place, char in enumerate(path) if char == "/"]
            for doubled in (
                path.replace("/", "//"),
                *(path[:place] + "//" + path[place:] for place in places),
            ):
                answer = client.get("/", environ_overrides={"PATH_INFO": doubled})
                assert answer.status_code == 200, doubled

    def test_only_whole_segments_are_the_prefix(self, tmp_path: Path) -> None:
        client = Client(app_of(tmp_path, 'prefix = "/endpoint"'))
        for path in ("/endpointv1/b", "/endpoint2/v1/b", "/Endpoint/v1/b", "/x/endpoint/v1/b", "/endpoint"):
            assert client.post(path, json={"batch": []}).status_code == 404

    @pytest.mark.parametrize("prefix", ["endpoint", "/endpoint/", "/", "//a", "/a//b", "/a b", "/ä", "/a?", "/.."])
    def test_an_invalid_prefix(self, prefix: str) -> None:
        with pytest.raises(ConfigurationError, match=r"server\.prefix: expected a path such as '/endpoint'"):
            parse_configuration(f'{CONFIGURATION}prefix = "{prefix}"')

    @pytest.mark.parametrize("prefix", ["/v1", "/debugger", "/health", "/beacon/v1", "/api", "/v1/projects"])
    def test_a_prefix_that_is_a_path_of_the_api(self, prefix: str) -> None:
        """Otherwise `/v1/b` could be `/b` below `/v1`, or itself."""
        with pytest.raises(ConfigurationError, match=r"server\.prefix: .* cannot be distinguished from the path"):
            parse_configuration(f'{CONFIGURATION}prefix = "{prefix}"')

    @pytest.mark.parametrize("prefix", ["/api/segment", "/ingest/v2", "/v2", "/a.b~c_d-e"])
    def test_others_are_taken(self, tmp_path: Path, prefix: str) -> None:
        client = Client(app_of(tmp_path, f'prefix = "{prefix}"'))
        assert client.post(f"{prefix}/v1/b", json={"batch": [], "writeKey": "key"}).status_code == 200


class TestPrefixOfAProxy:
    """A proxy that removes a prefix may name it (`proxy_hops`), or not."""

    @pytest.mark.parametrize("named", ["/endpoint", "/endpoint/", "endpoint", "//endpoint//"])
    @pytest.mark.parametrize("own", ["", "/endpoint", "/inner"])
    def test_one_that_is_named(self, tmp_path: Path, named: str, own: str) -> None:
        app = Stripping(app_of(tmp_path, "proxy_hops = 1", f'prefix = "{own}"'), "/endpoint", named)
        expected = "/endpoint/inner" if own == "/inner" else "/endpoint"
        assert api_host(Client(app), "/endpoint") == f"localhost{expected}/v1"
        assert can_sign_in(app, "/endpoint")

    @pytest.mark.parametrize("own", ["", "/a/b"])
    def test_one_that_is_named_with_doubled_slashes(self, tmp_path: Path, own: str) -> None:
        app = Stripping(app_of(tmp_path, "proxy_hops = 1", f'prefix = "{own}"'), "/a/b", "/a//b/")
        assert api_host(Client(app), "/a/b") == "localhost/a/b/v1"
        assert can_sign_in(app, "/a/b")

    @pytest.mark.parametrize("own", ["", "/endpoint"])
    def test_one_that_is_not(self, tmp_path: Path, own: str) -> None:
        """The page and its cookie know no path but the browser's; `apiHost` needs the server's own prefix."""
        app = Stripping(app_of(tmp_path, f'prefix = "{own}"'), "/endpoint")
        assert api_host(Client(app), "/endpoint") == f"localhost{own}/v1"
        assert can_sign_in(app, "/endpoint")

    def test_none_is_taken_off(self, tmp_path: Path) -> None:
        app = Stripping(app_of(tmp_path, 'prefix = "/endpoint"'), "")
        assert can_sign_in(app, "/endpoint")
        assert can_sign_in(app, "")

    def test_an_app_that_is_mounted_in_another_keeps_its_folder(self, tmp_path: Path) -> None:
        collector = app_of(tmp_path).collector
        whole = DispatcherMiddleware(TrackingApp(collector), {"/tracking": TrackingApp(collector, proxy_hops=1)})
        client = Client(whole)
        assert api_host(client, "/tracking", {"X-Forwarded-Prefix": "/a"}) == "localhost/a/tracking/v1"
        assert api_host(client, "/tracking", {"X-Forwarded-Prefix": "/"}) == "localhost/tracking/v1"
        assert api_host(client, "/tracking") == "localhost/tracking/v1"
