"""A real server with real clients: a published SDK, and a chunked body, over a real connection."""

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from patience import PATIENCE
from segment.analytics.client import Client

Serve = Callable[..., Any]
Run = Callable[..., Result]
Lines = Callable[[Result], list[Any]]

CALLS = ("identify", "track", "page", "screen", "group", "alias")
THREADS = 4
MESSAGES = 1_000


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
def test_the_python_sdk_from_four_threads(serve: Serve, run: Run, lines: Lines, *, zipped: bool) -> None:
    """segment-analytics-python as published: each message is stored once, and no error is reported."""
    served = serve("--write-key", "sdk-key")
    errors: list[Any] = []
    client = Client(
        "sdk-key",
        host=f"http://127.0.0.1:{served.port}",
        on_error=lambda error, _: errors.append(error),
        gzip=zipped,
        max_retries=0,
    )
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda number: send(client, number), range(MESSAGES)))
    client.flush()
    client.join()
    assert errors == []
    messages = [record["message"] for record in lines(run("events"))]
    assert len(messages) == MESSAGES
    assert len({message["messageId"] for message in messages}) == MESSAGES
    assert {message["context"]["number"]: stored(message) for message in messages} == {
        number: given(number) for number in range(MESSAGES)
    }
    assert Counter(message["type"] for message in messages) == {
        call: len(range(place, MESSAGES, len(CALLS))) for place, call in enumerate(CALLS)
    }
    assert run("rejected").stdout == ""


def send(client: Client, number: int) -> None:
    """Make one call of the SDK, of each of the six in turn."""
    call, user, context = CALLS[number % len(CALLS)], f"user-{number}", {"number": number}
    if call == "identify":
        client.identify(user, {"plan": "Pró"}, context=context)
    elif call == "track":
        client.track(user, "Item Purchased", {"revenue": 14.99}, context=context)
    elif call == "page":
        client.page(user, "Docs", "Home", {"path": "/"}, context=context)
    elif call == "screen":
        client.screen(user, "Settings", "Profile", {"tab": 2}, context=context)
    elif call == "group":
        client.group(user, "group-1", {"seats": 5}, context=context)
    else:
        client.alias("anonymous-1", user, context=context)


def given(number: int) -> dict[str, Any]:
    """Return the arguments of the SDK under their wire names."""
    call = CALLS[number % len(CALLS)]
    fields: dict[str, dict[str, Any]] = {
        "identify": {"traits": {"plan": "Pró"}},
        "track": {"event": "Item Purchased", "properties": {"revenue": 14.99}},
        "page": {"category": "Docs", "name": "Home", "properties": {"path": "/"}},
        "screen": {"category": "Settings", "name": "Profile", "properties": {"tab": 2}},
        "group": {"groupId": "group-1", "traits": {"seats": 5}},
        "alias": {"previousId": "anonymous-1"},
    }
    return {"type": call, "userId": f"user-{number}", **fields[call]}


def stored(message: dict[str, Any]) -> dict[str, Any]:
    """Remove the fields that the SDK and the server add to a stored message."""
    added = {"context", "integrations", "messageId", "originalTimestamp", "receivedAt", "sentAt", "timestamp"}
    return {name: value for name, value in message.items() if name not in added}


@pytest.mark.parametrize("length", [10, 100_000])
def test_chunked_gzip_without_a_length(serve: Serve, run: Run, lines: Lines, length: int) -> None:
    """The Kotlin and Android SDKs send `Transfer-Encoding: chunked`, always compressed, Kotlin as text/plain."""
    served = serve("--write-key", "sdk-key")
    messages = [
        {"type": "track", "userId": "u", "event": "E", "properties": {"text": chr(97 + place) * (length // 10)}}
        for place in range(10)
    ]
    body = gzip.compress(json.dumps({"batch": messages, "writeKey": "sdk-key"}).encode(), compresslevel=0)
    connection = HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE)
    headers = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    for path in ("/v1/b", "/v1/import"):
        connection.request("POST", path, pieces(body), headers, encode_chunked=True)
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b'{"success": true}'), "on one connection, kept in step"
    connection.close()
    assert [record["message"]["properties"] for record in lines(run("events"))] == [
        message["properties"] for message in messages * 2
    ]


def pieces(body: bytes) -> Iterator[bytes]:
    """Cut a body so that http.client sends it in chunks and without a length."""
    return (body[start : start + 1_000] for start in range(0, len(body), 1_000))


@pytest.mark.parametrize("path", ["//v1/import/", "/v1/track/", "/v1//batch/b/"])
def test_slashes_are_no_redirect(serve: Serve, path: str, tmp_path: Path) -> None:
    """Java doubles the slash of its endpoint, which gunicorn must not take for a host; a redirect loses the POST."""
    served = serve("--write-key", "sdk-key", "--data", str(tmp_path / "data"))
    message = {"type": "track", "userId": "u", "event": "E"}
    assert served.post(path, message if "track" in path else {"batch": [message]}, "sdk-key") == (
        200,
        {"success": True},
    )
