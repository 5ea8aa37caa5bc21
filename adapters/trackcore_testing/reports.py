"""Reports: why an assertion failed, as text; pure functions of the expectation and of everything received.

A difference is shown as pytest shows one: `-` is the expected value, `+` the received one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from difflib import SequenceMatcher, ndiff

import attrs

from trackcore import Limits, QuarantinedRequest, RejectedRecord, StoredMessage, explain_rejection, mask_write_key
from trackcore.plans import PLAN_WARNINGS
from trackcore.support import mask_write_keys
from trackcore.text import visible
from trackcore_testing.matching import Comparison, Expectation, expected_text, matching
from trackcore_testing.requests import RecordedRequest
from trackcore_testing.texts import as_text, counted, shortened, summary

_MOST_LISTED = 20
_MOST_CHARS = 1_000
_SIMILAR = 0.6
_SEPARATORS = re.compile(r"[\W_]+")
_NOTHING = "no request was received: does the SDK send to this server, and has it flushed its messages?"
_TWICE = "each has its own messageId, so these are separate calls: a message that is sent again is stored once"


@attrs.frozen(kw_only=True)
class Received:
    """All messages, rejections and requests that were received."""

    messages: Sequence[StoredMessage] = ()
    rejected: Sequence[RejectedRecord] = ()
    quarantined: Sequence[QuarantinedRequest] = ()
    requests: Sequence[RecordedRequest] = ()


def not_received(expectation: Expectation, received: Received) -> str:
    """Report that no message matches: the nearest one with its differences, and everything received."""
    title = f"no matching {_described(expectation)} was received"
    nearest = _nearest(expectation, received.messages)
    if nearest is None:
        return _joined(title, *_everything(received))
    lines = [line for found in expectation.compare(nearest.message) for line in _difference(found)]
    difference = [f"nearest: message {nearest.seq} (- expected, + received)", *_aligned(lines)]
    return _joined(title, difference, *_everything(received, marked=[nearest]))


def wrong_count(expectation: Expectation, count: int, received: Received) -> str:
    """Report that more or fewer messages match than expected."""
    found = matching(expectation, received.messages)
    title = f"{_described(expectation)} was received {_times(len(found))}, not {_times(count)}"
    reason = [_TWICE] if len(found) > 1 else []
    return _joined(title, reason, *_everything(received, marked=found))


def violations(messages: Sequence[StoredMessage], allowed: Collection[str]) -> str:
    """Report how messages violate the tracking plan; empty if they do not."""
    lines = [
        f"message {message.seq} ({summary(message.message)}): "
        f"{warning['path']}: {warning['code']}: {warning['message']}"
        for message in messages
        for warning in message.warnings
        if warning["code"] in PLAN_WARNINGS and warning["code"] not in allowed
    ]
    more = [f"... and {len(lines) - _MOST_LISTED} more"] if len(lines) > _MOST_LISTED else []
    return "\n".join(map(visible, ["not as planned:", *lines[:_MOST_LISTED], *more])) if lines else ""


def unexpected(expectation: Expectation, received: Received) -> str:
    """Report that messages match which must not be there."""
    found = matching(expectation, received.messages)
    return _joined(
        f"{_described(expectation)} was received, and should not have been", *_everything(received, marked=found)
    )


def wrong_order(expected: Sequence[str], found: Sequence[str], received: Received) -> str:
    """Report that events are in another order, or are not all there."""
    missing = [as_text(event) for event in expected if event not in found]
    title = f"{', '.join(missing)} not received" if missing else "the events are in another order"
    order = [line for line in ndiff(list(map(as_text, expected)), list(map(as_text, found))) if line[0] in "-+ "]
    return _joined(
        f"{title} (- expected, + received, by the client's clock)",
        [f"  {line}" for line in order],
        *_everything(received),
    )


def too_early(event: str, early: Sequence[StoredMessage], received: Received) -> str:
    """Report messages from before an event that should be the first, or that it is not there."""
    if not early:
        return _joined(f"{as_text(event)} was not received", *_everything(received))
    number = counted(len(early), "message")
    return _joined(f"{number} before {as_text(event)}, by the client's clock", *_everything(received, marked=early))


def too_few(count: int, received: Received) -> str:
    """Report that there are fewer messages than expected."""
    return _joined(f"expected {counted(count, 'message')}, received {len(received.messages)}", *_everything(received))


def not_quiet(seconds: float, received: Received) -> str:
    """Report that requests kept coming."""
    return _joined(f"there were never {seconds:g} s without a request", *_everything(received))


def rejections(rejected: Sequence[RejectedRecord], quarantined: Sequence[QuarantinedRequest], limits: Limits) -> str:
    """Report rejections, each with the value that was found, the allowed ones and the remedy."""
    explained = [*(_explained(record, limits) for record in rejected), *map(_explained_quarantined, quarantined)]
    title = f"{counted(len(rejected), 'rejection')}, {counted(len(quarantined), 'request')} with an unknown write key"
    return _joined(title, *explained[:_MOST_LISTED])


# The expectation, and the message that is nearest to it


def _described(expectation: Expectation) -> str:
    """Return the call and the name of what is expected: `track "Order Completed"`."""
    name = next((expectation.fields[name] for name in _NAMES if name in expectation.fields), None)
    call = str(expectation.call or "message")
    return call if name is None else f"{call} {expected_text(name)}"


def _nearest(expectation: Expectation, messages: Sequence[StoredMessage]) -> StoredMessage | None:
    near = [stored for stored in messages if _is_near(expectation, stored)]
    return max(near, key=lambda stored: _nearness(expectation, stored), default=None)


def _is_near(expectation: Expectation, stored: StoredMessage) -> bool:
    """Return whether a message may be the expected one with mistakes, and not just another one."""
    return expectation.call in (None, stored.call) and _nearness(expectation, stored) >= _SIMILAR


def _nearness(expectation: Expectation, stored: StoredMessage) -> float:
    """Return the similarity of the names, if it is large, and the share of the other values that match.

    Ids do not count, since most messages of a test are of one user.
    """
    compared = list(expectation.compare(stored.message))
    similarity = max((_similarity(found) for found in compared if found.path in _NAMES), default=1.0)
    others = [found.matches for found in compared if found.path not in (*_NAMES, *_IDS)]
    share = sum(others) / len(others) if others else 0
    return share + (similarity if similarity >= _SIMILAR else 0)


def _similarity(name: Comparison) -> float:
    return 1 if name.matches else SequenceMatcher(None, _words(name.expected), _words(name.received)).ratio()


def _words(name: str) -> str:
    return _SEPARATORS.sub(" ", name).casefold()


def _difference(comparison: Comparison) -> list[tuple[str, str, str]]:
    """Return the lines of one value, each as its sign, its path and the value."""
    if comparison.matches:
        return [(" ", comparison.path, comparison.received)]
    return [("-", comparison.path, comparison.expected), ("+", comparison.path, comparison.received)]


def _aligned(lines: Sequence[tuple[str, str, str]]) -> list[str]:
    width = max((len(path) for _, path, _ in lines), default=0)
    return [f"  {sign} {path:{width}}  {shortened(text, _MOST_CHARS)}" for sign, path, text in lines]


# Everything that was received


def _everything(received: Received, *, marked: Sequence[StoredMessage] = ()) -> Iterator[list[str]]:
    """Yield a paragraph about the messages, one about rejections, and one about failed requests."""
    marks = {stored.seq for stored in marked}
    lines = [
        f"{'>' if stored.seq in marks else ' ':>3} {stored.seq:2}  {summary(stored.message)}"
        for stored in received.messages
    ]
    if not received.requests and not lines:
        yield [_NOTHING]
        return
    title = f"{counted(len(lines), 'message')} received in {counted(len(received.requests), 'request')}"
    yield [f"{title}{':' if lines else ''}", *_newest(lines)]
    refused = [f"    {record.code}: {record.message}: {_payload(record)}" for record in received.rejected]
    refused += [f"    unknown write key: {_payload(request)}" for request in received.quarantined]
    if refused:
        yield [f"{len(refused)} not accepted:", *_newest(refused)]
    failed = [f"    {_failed(request)}" for request in received.requests if request.status != _OK]
    if failed:
        yield [f"{counted(len(failed), 'request')} failed:", *_newest(failed)]


_OK = 200


def _newest(lines: Sequence[str]) -> list[str]:
    left_out = len(lines) - _MOST_LISTED
    return list(lines) if left_out <= 0 else [f"    ... {left_out} before these", *lines[left_out:]]


def _failed(request: RecordedRequest) -> str:
    status = "no answer" if request.status is None else str(request.status)
    cause = "" if request.fault is None else f" (the fault {request.fault})"
    return f"{request.method} {visible(request.path)}: {status}{cause}"


# Rejections


def _explained(record: RejectedRecord, limits: Limits) -> list[str]:
    explanation = explain_rejection(
        code=record.code,
        detail=record.message,
        path=record.path,
        payload=record.payload,
        limits=limits,
        batch=record.batch,
    )
    known = {
        "found": explanation.found,
        "allowed": explanation.allowed,
        "remedy": None if explanation.entry is None else explanation.entry.remedy,
        "message": _payload(record),
    }
    where = f" at {record.path}" if record.path else ""
    return [
        f"{record.code}{where}: {record.message}",
        *(f"    {label}: {shortened(text, 4 * _LINE)}" for label, text in known.items() if text),
    ]


def _explained_quarantined(request: QuarantinedRequest) -> list[str]:
    written = request.write_key and mask_write_key(request.write_key)
    key = f"with the write key {written}" if written else "without a write key"
    return [
        f"unknown_source: a request came {key}, which belongs to no source",
        "    remedy: use the write key of the test, or name the key in the setting trackcore_sources",
        f"    request: {_payload(request)}",
    ]


def _payload(record: RejectedRecord | QuarantinedRequest) -> str:
    return shortened(visible(mask_write_keys(record.payload).decode("utf-8", "replace")), 2 * _LINE)


def _joined(title: str, *paragraphs: Sequence[str]) -> str:
    return "\n\n".join(["\n".join(lines) for lines in ([title], *paragraphs) if lines])


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


_LINE = 80
_NAMES = ("event", "name")
_IDS = ("userId", "anonymousId")
