from __future__ import annotations

import copy
import pickle
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackcore import (
    Cause,
    Invalid,
    InvalidMessage,
    InvalidRequest,
    MessageWarning,
    Reason,
    SinkUnavailable,
    TrackcoreError,
    WarningCode,
)


def invalids() -> st.SearchStrategy[Invalid]:
    """Return errors of both classes; few values for each field, so that equal ones occur."""
    fields: dict[str, Any] = {
        "reason": st.sampled_from([Reason.INVALID_JSON, Reason.TOO_DEEP]),
        "detail": st.sampled_from(["", "so it is"]),
        "path": st.sampled_from(["", "userId"]),
        "limit": st.none() | st.integers(0, 1),
        "actual": st.none() | st.integers(0, 1),
        "position": st.none() | st.integers(0, 1),
    }
    return st.builds(InvalidRequest, **fields) | st.builds(InvalidMessage, **fields)


def parts(error: Invalid) -> tuple[object, ...]:
    return type(error), error.reason, error.detail, error.path, error.limit, error.actual, error.position


class TestValues:
    @given(invalids(), invalids())
    def test_errors_compare_by_value(self, one: Invalid, other: Invalid) -> None:
        assert (one == other) == (parts(one) == parts(other))
        assert one != other or hash(one) == hash(other)

    @given(invalids())
    def test_errors_pickle_and_copy(self, error: Invalid) -> None:
        for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301
            assert twin == error
            assert twin is not error
            assert parts(twin) == parts(error)
            assert str(twin) == str(error)

    def test_an_error_is_not_what_it_looks_like(self) -> None:
        message = InvalidMessage(reason=Reason.TOO_DEEP, detail="")
        assert message != InvalidRequest(reason=Reason.TOO_DEEP, detail="")
        assert message != "too_deep"

    def test_a_sink_error_pickles_too(self) -> None:
        error = SinkUnavailable(cause=Cause.FULL, detail="the disk is full", retry_after=60)
        twin = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert twin == error
        assert (twin.cause, twin.retry_after, str(twin)) == (Cause.FULL, 60, "the disk is full")

    def test_errors_can_be_raised_chained_and_annotated(self) -> None:
        """Frozen exceptions cannot: raising sets the traceback."""
        error = InvalidMessage(reason=Reason.TOO_DEEP, detail="x")
        with pytest.raises(InvalidMessage) as caught:
            raise error from KeyError()
        error.add_note("a note")
        assert caught.value is error
        assert isinstance(error.__cause__, KeyError)

    def test_an_error_without_a_detail_shows_its_values(self) -> None:
        @attrs.define(eq=False)
        class Full(TrackcoreError):
            limit: int

        assert str(Full(7)) == "7"

    @given(invalids())
    def test_the_text_starts_with_the_path(self, error: Invalid) -> None:
        assert str(error) == (f"{error.path}: {error.detail}" if error.path else error.detail)


class TestHierarchy:
    @pytest.mark.parametrize("error", [Invalid, InvalidRequest, InvalidMessage, SinkUnavailable])
    def test_one_base_for_all(self, error: type[Exception]) -> None:
        assert issubclass(error, TrackcoreError)

    def test_requests_and_messages_are_never_mixed(self) -> None:
        assert not issubclass(InvalidRequest, InvalidMessage)
        assert not issubclass(InvalidMessage, InvalidRequest)
        assert not issubclass(SinkUnavailable, Invalid)


class TestCodes:
    @pytest.mark.parametrize("code", [*Reason, *WarningCode])
    def test_a_code_is_stable_text_with_a_sentence(self, code: Reason | WarningCode) -> None:
        assert code == code.value == code.name.lower()
        assert code.sentence.endswith(".")
        assert f"{code}" == code.value

    @pytest.mark.parametrize(
        "code",
        [
            "no_user_anon_id",
            "id_not_string",
            "event_not_defined",
            "event_not_string",
            "properties_not_object",
            "traits_not_object",
            "name_not_string",
            "category_not_string",
        ],
    )
    def test_published_discard_codes_are_used(self, code: str) -> None:
        """https://segment.com/docs/connections/delivery-overview/#discarded-events"""
        assert code in list(Reason)

    def test_a_code_survives_pickling(self) -> None:
        assert pickle.loads(pickle.dumps(Reason.TOO_DEEP)) is Reason.TOO_DEEP  # noqa: S301

    def test_warnings_are_values(self) -> None:
        warning = MessageWarning(code=WarningCode.ID_FROM_NUMBER, message="m")
        assert warning == MessageWarning(code=WarningCode.ID_FROM_NUMBER, message="m", path="")
        assert hash(warning) == hash(MessageWarning(code=WarningCode.ID_FROM_NUMBER, message="m"))
