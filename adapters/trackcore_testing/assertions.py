"""Assertions about the messages that were received; each of them waits for its messages.

SDKs send in the background, so an assertion waits until it holds, at most `timeout` seconds; if it holds already it
does not wait at all.  That there is *no* message, or no further one, cannot be waited for: flush the SDK first, or
`wait_until_quiet`.

The functions repeat their parameters, so that `help()` and editors show them.

Each function has `__tracebackhide__`, so pytest shows the line of the test, and not those in here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, TypeAlias, TypeVar

from attrs import NOTHING

from trackcore import (
    Alias,
    Call,
    Group,
    Identify,
    JSONObject,
    Message,
    Page,
    Screen,
    StoredMessage,
    Track,
    parse_timestamp,
    structure_message,
)
from trackcore.support import MESSAGE_TYPES
from trackcore_testing import reports
from trackcore_testing.arrivals import Arrivals
from trackcore_testing.matching import Expectation, matching
from trackcore_testing.reports import Received

Expected: TypeAlias = Any
"""An expected value; see `trackcore_testing.matching`.  The default of each parameter, `NOTHING`: not compared."""

M = TypeVar("M", bound=Message)

QUIET_SECONDS = 0.3
_CALLS: Mapping[type, Call] = {kind: call for call, kind in MESSAGE_TYPES.items()}
_NEVER = datetime.min.replace(tzinfo=UTC)


class Assertions:
    """Asserts, and waits for messages.

    An assertion passes if a message matches all fields that are given; if several do, the first one is returned.
    `properties`, `traits`, `context` and `integrations` may have other keys than the expected ones, unless `exactly`.
    With a `count`, exactly so many messages must match.  Raises `AssertionError`, with the nearest message and
    everything that was received.
    """

    def __init__(self, arrivals: Arrivals, timeout: float) -> None:
        self.arrivals = arrivals
        self._timeout = timeout

    def assert_tracked(
        self,
        event: Expected,
        *,
        user_id: Expected = NOTHING,
        anonymous_id: Expected = NOTHING,
        properties: Expected = NOTHING,
        context: Expected = NOTHING,
        integrations: Expected = NOTHING,
        count: int | None = None,
        exactly: bool = False,
        timeout: float | None = None,
    ) -> Track:
        """Assert that an event was tracked, and return its message."""
        __tracebackhide__ = True
        common = _common(user_id, anonymous_id, context, integrations)
        return self._assert(Track, {"event": event, **common, "properties": properties}, count, exactly, timeout)

    def assert_identified(
        self,
        user_id: Expected = NOTHING,
        *,
        anonymous_id: Expected = NOTHING,
        traits: Expected = NOTHING,
        context: Expected = NOTHING,
        integrations: Expected = NOTHING,
        count: int | None = None,
        exactly: bool = False,
        timeout: float | None = None,
    ) -> Identify:
        """Assert that a user was identified, and return the message."""
        __tracebackhide__ = True
        common = _common(user_id, anonymous_id, context, integrations)
        return self._assert(Identify, {**common, "traits": traits}, count, exactly, timeout)

    def assert_paged(
        self,
        name: Expected = NOTHING,
        *,
        category: Expected = NOTHING,
        user_id: Expected = NOTHING,
        anonymous_id: Expected = NOTHING,
        properties: Expected = NOTHING,
        context: Expected = NOTHING,
        integrations: Expected = NOTHING,
        count: int | None = None,
        exactly: bool = False,
        timeout: float | None = None,
    ) -> Page:
        """Assert that a page was viewed, and return the message."""
        __tracebackhide__ = True
        common = _common(user_id, anonymous_id, context, integrations)
        fields = {"name": name, "category": category, **common, "properties": properties}
        return self._assert(Page, fields, count, exactly, timeout)

    def assert_screened(
        self,
        name: Expected = NOTHING,
        *,
        category: Expected = NOTHING,
        user_id: Expected = NOTHING,
        anonymous_id: Expected = NOTHING,
        properties: Expected = NOTHING,
        context: Expected = NOTHING,
        integrations: Expected = NOTHING,
        count: int | None = None,
        exactly: bool = False,
        timeout: float | None = None,
    ) -> Screen:
        """Assert that a screen was viewed, and return the message."""
        __tracebackhide__ = True
        common = _common(user_id, anonymous_id, context, integrations)
        fields = {"name": name, "category": category, **common, "properties": properties}
        return self._assert(Screen, fields, count, exactly, timeout)

    def assert_grouped(
        self,
        group_id: Expected = NOTHING,
        *,
        user_id: Expected = NOTHING,
        anonymous_id: Expected = NOTHING,
        traits: Expected = NOTHING,
        context: Expected = NOTHING,
        integrations: Expected = NOTHING,
        count: int | None = None,
        exactly: bool = False,
        timeout: float | None = None,
    ) -> Group:
        """Assert that a user was put into a group, and return the message."""
        __tracebackhide__ = True
        common = _common(user_id, anonymous_id, context, integrations)
        return self._assert(Group, {"groupId": group_id, **common, "traits": traits}, count, exactly, timeout)

    def assert_aliased(
        self,
        previous_id: Expected = NOTHING,
        *,
        user_id: Expected = NOTHING,
        anonymous_id: Expected = NOTHING,
        context: Expected = NOTHING,
        integrations: Expected = NOTHING,
        count: int | None = None,
        exactly: bool = False,
        timeout: float | None = None,
    ) -> Alias:
        """Assert that a user got another id, and return the message."""
        __tracebackhide__ = True
        common = _common(user_id, anonymous_id, context, integrations)
        return self._assert(Alias, {"previousId": previous_id, **common}, count, exactly, timeout)

    def assert_not_tracked(
        self,
        event: Expected = NOTHING,
        *,
        user_id: Expected = NOTHING,
        anonymous_id: Expected = NOTHING,
        properties: Expected = NOTHING,
        context: Expected = NOTHING,
        integrations: Expected = NOTHING,
        exactly: bool = False,
    ) -> None:
        """Assert that no such event has been tracked so far; without arguments, that no event has.

        It does not wait.
        """
        __tracebackhide__ = True
        common = _common(user_id, anonymous_id, context, integrations)
        expectation = _expectation(Track, {"event": event, **common, "properties": properties}, exactly)
        received = self._received()
        if matching(expectation, received.messages):
            raise AssertionError(reports.unexpected(expectation, received))

    def assert_in_order(self, events: Sequence[str], *, timeout: float | None = None) -> None:
        """Assert that events were tracked in this order by the client's clock, and none of them before its turn.

        Others may be between them, and an event may be repeated later.
        """
        __tracebackhide__ = True

        def holds() -> bool:
            return _is_in_order(events, self._events_in_order())

        if not self._wait(holds, timeout):
            found = [event for event in self._events_in_order() if event in events]
            raise AssertionError(reports.wrong_order(events, found, self._received()))

    def assert_nothing_before(self, event: str, *, timeout: float | None = None) -> None:
        """Assert that an event was tracked, and no message of any kind was made before it, by the client's clock.

        For example, that nothing was sent before a person gave consent.
        """
        __tracebackhide__ = True
        is_there = self._wait(lambda: event in self._events_in_order(), timeout)
        received = self._received()
        ordered = _by_time(received.messages)
        early = list(takewhile(lambda stored: stored.message.get("event") != event, ordered)) if is_there else []
        if early or not is_there:
            raise AssertionError(reports.too_early(event, early, received))

    def wait_for(
        self,
        event: Expected,
        *,
        user_id: Expected = NOTHING,
        anonymous_id: Expected = NOTHING,
        properties: Expected = NOTHING,
        context: Expected = NOTHING,
        integrations: Expected = NOTHING,
        exactly: bool = False,
        timeout: float | None = None,
    ) -> Track:
        """Wait until an event is tracked, and return its message: `assert_tracked` by another name."""
        __tracebackhide__ = True
        common = _common(user_id, anonymous_id, context, integrations)
        return self._assert(Track, {"event": event, **common, "properties": properties}, None, exactly, timeout)

    def wait_for_count(self, count: int, *, timeout: float | None = None) -> list[Message]:
        """Wait until there are so many messages of any kind, and return all of them."""
        __tracebackhide__ = True
        if not self._wait(lambda: len(self.arrivals.messages) >= count, timeout):
            raise AssertionError(reports.too_few(count, self._received()))
        return [structure_message(stored.message) for stored in self.arrivals.messages]

    def wait_until_quiet(self, quiet: float = QUIET_SECONDS, *, timeout: float | None = None) -> None:
        """Wait for a pause of `quiet` seconds in which no request is received or in progress."""
        __tracebackhide__ = True
        if not self.arrivals.wait_until_quiet(quiet, self._timeout if timeout is None else timeout):
            raise AssertionError(reports.not_quiet(quiet, self._received()))

    def find(self, expectation: Expectation, count: int | None, timeout: float | None) -> Sequence[StoredMessage]:
        """Wait for messages that match, and return them.  Raises `AssertionError`."""
        __tracebackhide__ = True
        if count is not None and count < 1:
            raise ValueError("count is 1 or more; assert_not_tracked asserts that there is none")
        self._wait(lambda: len(matching(expectation, self.arrivals.messages)) >= (count or 1), timeout)
        received = self._received()
        found = matching(expectation, received.messages)
        if not found:
            raise AssertionError(reports.not_received(expectation, received))
        if count not in (None, len(found)):
            raise AssertionError(reports.wrong_count(expectation, count, received))
        return found

    def _received(self) -> Received:
        """Return everything that was received so far."""
        with self.arrivals.changed:
            return Received(
                messages=list(self.arrivals.messages),
                rejected=self.arrivals.rejected,
                quarantined=self.arrivals.quarantined,
                requests=list(self.arrivals.requests),
            )

    def _assert(self, kind: type[M], fields: JSONObject, count: int | None, exactly: bool, timeout: float | None) -> M:
        __tracebackhide__ = True
        first, *_ = self.find(_expectation(kind, fields, exactly), count, timeout)
        message = structure_message(first.message)
        assert isinstance(message, kind)
        return message

    def _events_in_order(self) -> list[str]:
        return [stored.message["event"] for stored in _by_time(self.arrivals.messages) if stored.call == "track"]

    def _wait(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        return self.arrivals.wait_until(condition, self._timeout if timeout is None else timeout)


def _common(user_id: Expected, anonymous_id: Expected, context: Expected, integrations: Expected) -> JSONObject:
    return {"userId": user_id, "anonymousId": anonymous_id, "context": context, "integrations": integrations}


def _expectation(kind: type, fields: JSONObject, exactly: bool) -> Expectation:
    given = {name: value for name, value in fields.items() if value is not NOTHING}
    return Expectation(call=_CALLS[kind], fields=given, exactly=exactly)


def _by_time(messages: Iterable[StoredMessage]) -> list[StoredMessage]:
    """Return messages in the order in which the client made them, since requests may overtake each other."""
    return sorted(messages, key=lambda stored: _time(stored.message))


def _time(message: JSONObject) -> datetime:
    return parse_timestamp(message.get("originalTimestamp") or message["timestamp"]) or _NEVER


def _is_in_order(expected: Sequence[str], events: Sequence[str]) -> bool:
    if not set(expected) <= set(events):
        return False
    first_times = [events.index(event) for event in dict.fromkeys(expected)]
    rest = iter(events)
    return first_times == sorted(first_times) and all(event in rest for event in expected)
