"""The description of an unexpected error has its type and places, never its text."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackcore.text.unexpected import describe_unexpected

SECRETS = st.text(st.characters(codec="utf-8")).map(lambda text: f"s3cr3t{text}")


def caught(run: Callable[[], object]) -> Exception:
    """Return the error that a call raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of any type
        run()
    return caught.value


def throw(error: Exception, cause: Exception | None = None) -> None:
    """Raise an error, while `cause` is handled if there is one."""
    try:
        if cause is not None:
            throw(cause)
    finally:
        raise error


def errors(secret: str) -> list[Exception]:
    """Return errors whose texts quote a secret, one for each way of quoting."""
    unencodable = secret + "\ud800"
    noted = ValueError(secret)
    noted.add_note(secret)
    return [
        ValueError(secret),
        KeyError(secret),
        OSError(5, secret, secret),
        caught(unencodable.encode),
        caught(lambda: json.loads("{" + secret)),
        caught(lambda: {"": 0}[secret]),
        noted,
        caught(lambda: throw(RuntimeError(secret), KeyError(secret))),
        ExceptionGroup(secret, [ValueError(secret), ExceptionGroup(secret, [KeyError(secret)])]),
    ]


@given(SECRETS)
def test_no_text_of_an_error_is_shown(secret: str) -> None:
    for error in errors(secret):
        shown = describe_unexpected(caught(partial(throw, error)))
        assert "s3cr3t" not in shown
        assert shown.isprintable()
        assert f"{type(error).__qualname__} at test_unexpected.py:" in shown


def test_places_are_shown_innermost_last() -> None:
    def fail() -> None:
        raise KeyError("x")

    first, last = describe_unexpected(caught(fail)).removeprefix("KeyError at ").split(", ")
    assert first.startswith("test_unexpected.py:")
    assert first.endswith(" in caught")
    assert last.endswith(" in fail")


def test_its_cause_is_shown_unless_it_is_suppressed() -> None:
    shown = caught(lambda: throw(ValueError(), OSError()))
    assert "; after OSError at " in describe_unexpected(shown)
    shown.__suppress_context__ = True
    assert "OSError" not in describe_unexpected(shown)
    group = ExceptionGroup("", [KeyError(), OSError()])
    assert describe_unexpected(group) == "ExceptionGroup; after KeyError; after OSError"


def test_neither_cycles_nor_depth_make_it_long() -> None:
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one
    assert describe_unexpected(one) == "ValueError; after KeyError"
    many = ExceptionGroup("", [ValueError() for _ in range(100)])
    assert describe_unexpected(many).endswith("; after 93 more")

    def deep(left: int) -> None:
        deep(left - 1) if left else json.loads("")

    assert describe_unexpected(caught(lambda: deep(200))).count(" in ") == 8
