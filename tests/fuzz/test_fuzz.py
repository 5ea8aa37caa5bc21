"""A short run of the fuzzers, and every finding of long runs."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz.mutations import mutate
from fuzz.oracle import Finding, Oracle, check_codec
from fuzz.raw import RawRequest, format_raw, found_cases, honest_requests, parse_raw, seeds
from fuzz.run import TARGETS, replay, run_mutations
from hypothesis import given
from hypothesis import strategies as st

FEW = 4_000


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Restore the loggers, to which an oracle adds a handler."""
    logger = logging.getLogger("trackcore")
    handlers, propagates = logger.handlers, logger.propagate
    yield
    logger.handlers, logger.propagate = handlers, propagates


@pytest.mark.parametrize("target", TARGETS)
def test_a_short_run_finds_nothing(tmp_path: Path, target: str) -> None:
    """Quotes the design: "for *any* bytes it returns, or raises one of our errors; anything else is a bug"."""
    crashes = tmp_path / "crashes"
    assert run_mutations(target, FEW, 1, crashes) == 0, list(crashes.glob("*"))


@pytest.mark.parametrize("name", found_cases())
def test_earlier_findings_stay_fixed(name: str, tmp_path: Path) -> None:
    replay(found_cases()[name], tmp_path)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_and_are_written_and_read_the_same(data: bytes) -> None:
    request = parse_raw(data)
    assert parse_raw(format_raw(request)) == request


def test_every_honest_request_is_answered_with_200_or_is_meant_to_be_missing(tmp_path: Path) -> None:
    oracle = Oracle(tmp_path)
    statuses = {request.target: oracle.check(request) for request in honest_requests()}
    oracle.close()
    assert {target for target, status in statuses.items() if status != 200} == {"/nowhere"}


def test_the_same_seed_makes_the_same_requests() -> None:
    known = seeds()
    runs = [[mutate(known[0], rng, known) for _ in range(200)] for rng in (random.Random(5), random.Random(5))]
    assert runs[0] == runs[1]
    assert len({format_raw(request) for request in runs[0]}) > 150


class TestTheOracleSees:
    def test_an_exception_in_the_app(self, tmp_path: Path) -> None:
        def fail() -> str:
            raise ZeroDivisionError

        oracle = Oracle(tmp_path, new_message_id=fail)
        with pytest.raises(Finding, match="an error was logged"):
            oracle.check(
                RawRequest(target="/v1/track?x", headers=seeds()[0].headers, body=b'{"userId":"u","event":"e"}')
            )
        oracle.close()

    def test_a_log_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "trackcore.db").write_bytes(b"not a database, and long enough to be seen as something else" * 20)
        oracle = Oracle(tmp_path)
        with pytest.raises(Finding, match="503"):
            oracle.check(RawRequest(target="/ready", method="GET"))
        oracle.close()

    def test_a_message_that_does_not_survive(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fuzz.oracle.encode_message", lambda _: b'{"type":"page","userId":"other"}')
        with pytest.raises(Finding, match="changed on its way"):
            check_codec(b'{"type":"page","userId":"u"}')
