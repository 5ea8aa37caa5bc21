"""Fixtures for the tests of the test kit: a server for all tests of a module, and a client of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from kit_client import Client
from trackcore_testing import Tracking, TrackingServer

from trackcore import Source

SOURCES = (Source(name="website", write_keys=["web-key"]), Source(name="app", write_keys=["app-key"]))


@pytest.fixture(scope="module", name="server")
def _server() -> Iterator[TrackingServer]:
    """A server with two sources."""
    with TrackingServer(sources=SOURCES, destinations=["Mixpanel"], timeout=0) as server:
        yield server


@pytest.fixture(name="tracked")
def _tracked(server: TrackingServer) -> Iterator[Tracking]:
    """Everything that a test sends to the server."""
    with server.collecting(strict=False) as tracking:
        yield tracking


@pytest.fixture(name="client")
def _client(tracked: Tracking) -> Client:
    """A client of the server."""
    return Client(tracked.url)


@pytest.fixture(name="failure")
def _failure() -> Callable[[Callable[[], object]], str]:
    """Return the text with which an assertion fails."""

    def text_of(assertion: Callable[[], object]) -> str:
        with pytest.raises(AssertionError) as caught:
            assertion()
        return str(caught.value)

    return text_of
