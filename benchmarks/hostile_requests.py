"""Hostile requests, each within the limits or just beyond: the worst cases for a parser, a merger or a log."""

from __future__ import annotations

import base64
import gzip
import random
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from urllib.parse import quote

import attrs

from trackcore import Limits

REQUEST = Limits().request_bytes
MESSAGE = Limits().message_bytes
ITEMS = Limits().batch_messages
QUERY = 8_000
"""The longest query that the server accepts, in bytes."""

_KEY = "Basic " + base64.b64encode(b"abc123:").decode()


@attrs.frozen(kw_only=True)
class Attack:
    """One hostile request."""

    body: bytes = b""
    path: str = "/v1/batch"
    method: str = "POST"
    query: str = ""
    headers: dict[str, str] = attrs.field(factory=lambda: {"HTTP_AUTHORIZATION": _KEY})


CASES: dict[str, Callable[[], Attack]] = {}


def case(make: Callable[[], Attack]) -> Callable[[], Attack]:
    """Register a case by the name of the function that makes it."""
    CASES[make.__name__.replace("_", "-")] = make
    return make


# Building blocks


def batch(items: Iterable[bytes], shared: bytes = b"") -> bytes:
    """Return a batch of these items, with its shared fields, cut off at the limit of a request."""
    start, end = b"{" + shared + b'"batch":[', b"]}"
    room = REQUEST - len(start) - len(end)
    kept = []
    for item in items:
        room -= len(item) + 1
        if room < 0:
            break
        kept.append(item)
    return start + b",".join(kept) + end


def filled(unit: bytes, size: int, start: bytes = b"", end: bytes = b"", between: bytes = b"") -> bytes:
    """Repeat `unit` as often as fits into `size` bytes."""
    times = (size - len(start) - len(end)) // (len(unit) + len(between))
    return start + between.join([unit] * times) + end


def message(properties: bytes) -> bytes:
    """Return a valid track message with these properties."""
    return b'{"type":"track","userId":"u","event":"E","properties":' + properties + b"}"


def messages(properties: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield messages without end, each filled to its limit by `properties(room)`."""
    room = MESSAGE - len(message(b""))
    while True:
        yield message(properties(room))


def numbered(room: int, value: bytes = b"0", numbers: Iterator[int] | None = None) -> bytes:
    """Return an object with as many different keys as fit."""
    numbers = numbers or count()
    members = []
    room -= 2
    while room > 0:
        member = b'"%x":%b' % (next(numbers), value)
        room -= len(member) + 1
        members.append(member)
    return b"{" + b",".join(members[:-1]) + b"}"


def nested(levels: int, inner: bytes = b"0", key: bytes = b"a") -> bytes:
    """Return nested objects."""
    return b'{"%b":' % key * levels + inner + b"}" * levels


# Ordinary, for comparison


@case
def honest_small() -> Attack:
    return Attack(body=batch([message(b'{"plan":"Pro"}')]))


@case
def honest_full_batch() -> Attack:
    context = b'{"library":{"name":"analytics-python","version":"2.4.0"}}'
    one = message(b'{"plan":"Pro","pad":"' + b"x" * 700 + b'"}')
    return Attack(body=batch([one[:-1] + b',"context":' + context + b"}"] * ITEMS))


# Not JSON, or too much of it


@case
def brackets_open() -> Attack:
    return Attack(body=b'{"batch":' + b"[" * (REQUEST - 9))


@case
def brackets_closed() -> Attack:
    half = (REQUEST - 12) // 2
    return Attack(body=b'{"batch":[' + b"[" * half + b"]" * half + b"]}")


@case
def objects_open() -> Attack:
    return Attack(body=filled(b'{"a":', REQUEST))


@case
def objects_closed() -> Attack:
    return Attack(body=b'{"batch":[' + nested((REQUEST - 20) // 6) + b"]}")


@case
def empty_arrays_then_nan() -> Attack:
    return Attack(body=filled(b"[]", REQUEST, b'{"batch":[', b",NaN]}", b","))


@case
def empty_strings_then_nan() -> Attack:
    return Attack(body=filled(b'""', REQUEST, b'{"batch":[', b",NaN]}", b","))


@case
def escapes_then_nan() -> Attack:
    return Attack(body=filled(rb"\n", REQUEST, b'{"batch":["', b'",NaN]}'))


@case
def deep_bushes_in_context() -> Attack:
    return Attack(body=filled(b"[" * 60 + b"]" * 60, REQUEST, b'{"context":{"a":[', b']},"batch":[]}', b","))


@case
def deep_bushes_in_messages() -> Attack:
    return Attack(body=batch(messages(lambda room: filled(b"[" * 60 + b"]" * 60, room, b'{"a":[', b"]}", b","))))


@case
def shallow_bushes_in_messages() -> Attack:
    return Attack(body=batch(messages(lambda room: filled(b"[]", room, b'{"a":[', b"]}", b","))))


@case
def brackets_in_strings() -> Attack:
    return Attack(body=batch(messages(lambda room: filled(b'"["', room, b'{"a":[', b"]}", b","))))


@case
def quotes_unterminated() -> Attack:
    return Attack(body=filled(rb"\"", REQUEST, b'{"batch":["'))


@case
def deep_and_surrogate() -> Attack:
    bush = b"[" * 250 + b"]" * 250
    return Attack(body=filled(bush, REQUEST, rb'{"batch":["\ud800",', b"]}", b","))


# Text


@case
def escapes_short() -> Attack:
    return Attack(body=batch(messages(lambda room: filled(rb"\n", room, b'{"a":"', b'"}'))))


@case
def escapes_unicode() -> Attack:
    return Attack(body=batch(messages(lambda room: filled(rb"\u00e9", room, b'{"a":"', b'"}'))))


@case
def surrogates_everywhere() -> Attack:
    return Attack(body=batch(messages(lambda room: filled(rb"\ud800", room, b'{"a":"', b'"}'))))


@case
def surrogate_among_escapes() -> Attack:
    return Attack(body=batch(messages(lambda room: filled(rb"\n", room, rb'{"a":"\ud800', b'"}'))))


@case
def surrogate_and_tiny_items() -> Attack:
    return Attack(body=batch([rb'"\ud800"', *[b"0"] * (REQUEST // 2)]))


@case
def surrogate_in_shared_context() -> Attack:
    return Attack(
        body=filled(rb"\ud800", REQUEST - 100, b'{"context":{"a":"', b'"},"batch":[' + message(b"{}") + b"]}")
    )


@case
def surrogate_and_likenesses() -> Attack:
    """The normalized text is searched for a part at its end, after many parts that are nearly the same."""
    near = b'{"a":"' + b"x" * 30_000
    return Attack(body=batch([*[near + b'y"}'] * 15, near + rb'\ud800"}']))


@case
def not_ascii() -> Attack:
    return Attack(body=batch(messages(lambda room: filled("\U0001f600".encode(), room, b'{"a":"', b'"}'))))


# Numbers


@case
def digits_one_number() -> Attack:
    return Attack(body=b'{"batch":[' + b"9" * (REQUEST - 12) + b"]}")


@case
def digits_in_messages() -> Attack:
    return Attack(body=batch(messages(lambda room: filled(b"9" * 4_300, room, b'{"a":[', b"]}", b","))))


@case
def digits_too_many_in_messages() -> Attack:
    return Attack(body=batch(messages(lambda room: b'{"a":' + b"9" * (room - 6) + b"}")))


@case
def digits_in_shared_context() -> Attack:
    return Attack(
        body=filled(b"9" * 4_300, REQUEST - 100, b'{"context":{"a":[', b']},"batch":[' + message(b"{}") + b"]}", b",")
    )


@case
def digits_as_sent_at() -> Attack:
    return Attack(body=batch([message(b"{}")], b'"sentAt":' + b"9" * (REQUEST - 200) + b","))


@case
def digits_as_ids() -> Attack:
    one = b'{"type":"track","event":"E","userId":' + b"9" * 4_300 + b',"messageId":' + b"8" * 4_300 + b"}"
    return Attack(body=batch([one] * ITEMS))


@case
def floats() -> Attack:
    return Attack(body=batch(messages(lambda room: filled(b"1.2345678901234567e-300", room, b'{"a":[', b"]}", b","))))


@case
def floats_of_extreme_exponents() -> Attack:
    """Most floats are parsed in 0.03 microseconds, and these in 8."""
    return Attack(body=batch(messages(lambda room: filled(b"1e300", room, b'{"a":[', b"]}", b","))))


@case
def floats_in_shared_context() -> Attack:
    return Attack(
        body=filled(b"1e300", REQUEST - 100, b'{"context":{"a":[', b']},"batch":[' + message(b"{}") + b"]}", b",")
    )


@case
def floats_with_long_mantissa() -> Attack:
    number = b"0." + b"0" * 300 + b"1234567890123456789" * 20
    return Attack(body=batch(messages(lambda room: filled(number, room, b'{"a":[', b"]}", b","))))


# Keys


@case
def keys_in_messages() -> Attack:
    return Attack(body=batch(messages(numbered)))


@case
def keys_unknown_in_messages() -> Attack:
    return Attack(body=batch([b'{"type":"track","userId":"u","event":"E",' + numbered(32_000)[1:]] * ITEMS))


@case
def keys_in_envelope() -> Attack:
    return Attack(body=b'{"batch":[],' + numbered(REQUEST - 20)[1:])


@case
def keys_hash_flooding() -> Attack:
    """Keys whose hashes would collide if text hashing were not randomized: multiples of a power of two as text."""
    numbers = count(step=1 << 20)
    return Attack(body=batch(messages(lambda room: numbered(room, numbers=numbers))))


@case
def keys_repeated_in_messages() -> Attack:
    return Attack(body=batch(messages(lambda room: filled(b'"a":0', room, b"{", b"}", b","))))


@case
def keys_repeated_known() -> Attack:
    return Attack(body=batch([filled(b'"userId":"u"', 32_000, b'{"type":"track","event":"E",', b"}", b",")] * ITEMS))


@case
def keys_repeated_batch() -> Attack:
    return Attack(body=filled(b'"batch":[0]', REQUEST, b"{", b"}", b","))


@case
def keys_repeated_write_key() -> Attack:
    return Attack(body=filled(b'"writeKey":"x"', REQUEST, b'{"batch":[],', b"}", b","), headers={})


@case
def keys_repeated_write_key_not_json() -> Attack:
    return Attack(body=filled(b'"writeKey":"x"', REQUEST, b'{"batch":[],', b",", b","), headers={})


# Batches


@case
def tiny_good_items() -> Attack:
    return Attack(body=batch([b'{"type":"identify","userId":"u"}'] * ITEMS))


@case
def tiny_good_items_without_key() -> Attack:
    return Attack(body=batch([b'{"type":"identify","userId":"u"}'] * 15_000), headers={})


@case
def tiny_bad_items() -> Attack:
    return Attack(body=batch([b"{}"] * ITEMS))


@case
def tiny_items_beyond_count() -> Attack:
    return Attack(body=batch([b"0"] * (REQUEST // 2)))


@case
def tiny_objects_beyond_count() -> Attack:
    return Attack(body=batch([b"{}"] * (REQUEST // 3)))


@case
def tiny_objects_without_key() -> Attack:
    return Attack(body=batch([b"{}"] * (REQUEST // 3)), headers={})


@case
def bad_items_each_different() -> Attack:
    return Attack(body=batch(b'{"type":"%x%b"}' % (number, b"y" * 180) for number in range(ITEMS)))


@case
def bad_items_at_their_limit() -> Attack:
    return Attack(body=batch([b'{"type":"' + b"y" * 32_700 + b'"}'] * ITEMS))


@case
def mended_items() -> Attack:
    """Each message leaves the fast path: numeric ids, unreadable times, a different write key."""
    one = (
        b'{"type":"track","event":"E","userId":%d,"anonymousId":1.5,"messageId":%d,"timestamp":"x%d","sentAt":"y%d"'
        b',"writeKey":"z"}'
    )
    return Attack(body=batch(one % (number, number, number, number) for number in range(ITEMS)))


@case
def times_each_different() -> Attack:
    one = b'{"type":"track","event":"E","userId":"u","timestamp":"2015-2-%02dT00:%02d:08.%dZ"'
    one += b',"sentAt":"2015-2-%02d %d:00"}'
    return Attack(body=batch(one % (n % 27 + 1, n % 60, n, n % 27 + 1, n % 24) for n in range(ITEMS)))


@case
def times_with_long_tails() -> Attack:
    tail = b" " * 32_000
    return Attack(
        body=batch([b'{"type":"track","event":"E","userId":"u","timestamp":"2015-2-02T00:30%bx"}' % tail] * 20)
    )


@case
def duplicates() -> Attack:
    return Attack(body=batch([b'{"type":"identify","userId":"u","messageId":"m"}'] * ITEMS))


# Merging and routing


@case
def big_context_shared() -> Attack:
    context = b'"context":{"a":"' + b"x" * 400_000 + b'"},'
    return Attack(body=batch([b'{"type":"identify","userId":"u"}'] * ITEMS, context))


@case
def big_context_shared_and_own() -> Attack:
    context = b'"context":' + numbered(400_000) + b","
    items = (b'{"type":"identify","userId":"u","context":{"z":%d}}' % number for number in range(ITEMS))
    return Attack(body=batch(items, context))


@case
def deep_context_shared_and_own() -> Attack:
    context = b'"context":' + nested(63, b"{}") + b","
    items = (
        b'{"type":"identify","userId":"u","context":%b}' % nested(62, b'{"b":%d}' % number) for number in range(ITEMS)
    )
    return Attack(body=batch(items, context))


@case
def junk_integrations_shared() -> Attack:
    integrations = b'"integrations":' + numbered(400_000) + b","
    return Attack(body=batch([b'{"type":"identify","userId":"u"}'] * ITEMS, integrations))


@case
def junk_integrations_small_shared() -> Attack:
    integrations = b'"integrations":' + numbered(25_000) + b","
    return Attack(body=batch([b'{"type":"identify","userId":"u"}'] * ITEMS, integrations))


@case
def junk_integrations_own() -> Attack:
    numbers = count()
    items = (
        b'{"type":"identify","userId":"u","integrations":%b}' % numbered(32_000, numbers=numbers) for _ in range(ITEMS)
    )
    return Attack(body=batch(items))


@case
def integrations_each_different() -> Attack:
    one = b'{"type":"identify","userId":"u","integrations":{"D%d":{"x":%d},"d1":true,"All":%b}}'
    return Attack(body=batch(one % (n % 10, n, (b"true", b"false", b"0")[n % 3]) for n in range(ITEMS)))


@case
def integrations_case_flood() -> Attack:
    """Names that differ from a destination only in case, each of which gets a warning."""
    rng = random.Random(1)

    def name() -> bytes:
        return bytes(byte ^ 32 if rng.random() < 0.5 and byte > 64 else byte for byte in b"googleanalyticsfour")  # noqa: PLR2004

    def own() -> bytes:
        return b"{" + b",".join(b'"%b":true' % name() for _ in range(1_200)) + b"}"

    return Attack(body=batch(b'{"type":"identify","userId":"u","integrations":%b}' % own() for _ in range(20)))


# Compression


@case
def gzip_to_the_limit() -> Attack:
    return _gzipped(gzip.compress(filled(b" ", REQUEST, b'{"batch":[', b"]}")))


@case
def gzip_bomb() -> Attack:
    """512 KB that would inflate to 500 MB, at 1,000:1."""
    squeeze = zlib.compressobj(9, wbits=31)
    parts = []
    size = 0
    block = b" " * (1 << 20)
    while size < REQUEST - 4_096:
        parts.append(squeeze.compress(block))
        size += len(parts[-1])
    return _gzipped(b"".join([*parts, squeeze.flush()]))


@case
def gzip_nested() -> Attack:
    inner = gzip.compress(b" " * (400 << 20), 9)
    return _gzipped(gzip.compress(inner, 9))


@case
def gzip_members() -> Attack:
    part = gzip.compress(b" " * 8_000)
    return _gzipped(gzip.compress(b'{"batch":[') + part * 62 + gzip.compress(b"]}"))


@case
def gzip_members_beyond_count() -> Attack:
    return _gzipped(filled(gzip.compress(b""), REQUEST))


@case
def gzip_of_trailing_zeros() -> Attack:
    return _gzipped(gzip.compress(b"{}") + b"\0" * REQUEST)


@case
def body_beyond_limit() -> Attack:
    return Attack(body=b" " * (20 << 20))


# The query and the headers


@case
def pixel_deep_query() -> Attack:
    return _pixel("&".join(f"{'a.' * 60}{number}=1" for number in range(60)))


@case
def pixel_many_keys() -> Attack:
    return _pixel("&".join(f"{number:x}" for number in range(2_000)))


@case
def pixel_all_ampersands() -> Attack:
    return _pixel("&" * QUERY)


@case
def pixel_all_dots() -> Attack:
    return _pixel("." * QUERY)


@case
def pixel_data() -> Attack:
    return _pixel("data=" + quote(base64.b64encode(b"[" * 5_700)))


@case
def long_headers() -> Attack:
    long = "A" * 8_000
    return Attack(
        body=batch([message(b"{}")]),
        headers={
            "HTTP_AUTHORIZATION": "Basic " + long,
            "HTTP_X_WRITE_KEY": long,
            "HTTP_ORIGIN": long,
            "HTTP_CONTENT_ENCODING": long,
        },
    )


@case
def path_of_slashes() -> Attack:
    return Attack(path="/" * QUERY + "v1/batch" + "/" * QUERY)


def _gzipped(data: bytes) -> Attack:
    return Attack(body=data, headers={"HTTP_AUTHORIZATION": _KEY, "HTTP_CONTENT_ENCODING": "gzip"})


def _pixel(query: str) -> Attack:
    return Attack(path="/v1/pixel/track", method="GET", query=query[:QUERY], headers={})
