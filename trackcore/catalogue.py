"""The catalogue: one entry for each `Reason` and each `Warned`, from which every place that explains takes its text.

The command line, the debugger, the description of the API and the README say the same, since they say it from here.
The entries of rejections have a module of their own, `rejections`, for their length.
"""

from __future__ import annotations

from collections.abc import Mapping

from trackcore.entries import Docs, Entry
from trackcore.errors import Warned
from trackcore.rejections import REJECTIONS


def _entry(warned: Warned, *, meaning: str, senders: str, remedy: str, link: Docs, allowed: str = "") -> Entry:
    return Entry(
        code=warned,
        title=warned.sentence,
        meaning=meaning,
        senders=senders,
        remedy=remedy,
        link=link,
        allowed=allowed,
    )


_WARNINGS = (
    _entry(
        Warned.ID_FROM_NUMBER,
        meaning="An id should be text. This one came as a number and is kept as its decimal text: 42 and 42.0 both "
        'become "42". Nothing is lost, unless the client had already rounded a long number.',
        senders="Ruby and PHP code that passes the primary key of a table; JavaScript that does so, where numbers "
        "above 9007199254740991 have lost their last digits before they are sent.",
        remedy="Convert ids to text in the client.",
        allowed="a string",
        link=Docs.IDENTITIES,
    ),
    _entry(
        Warned.SURROGATE_REPLACED,
        meaning="A `\\ud800` to `\\udfff` stood alone. Two of them are one character; one of them is none, and no "
        "UTF-8 text can hold it. It was replaced by U+FFFD, the replacement character. All else is as it came.",
        senders="JavaScript and Python code that cuts a text in the middle of an emoji, as `text.slice(0, 100)` does.",
        remedy="Cut texts by characters: `[...text].slice(0, 100).join('')`.",
        allowed="whole characters",
        link=Docs.JSON,
    ),
    _entry(
        Warned.TIMESTAMP_UNPARSABLE,
        meaning="The time of the message could not be read, so the message has the time at which it was received. What "
        "the client wrote is kept in `originalTimestamp`.",
        senders="Code that formats dates for people: `02/01/2015`, `Mon Feb 02 2015`; templates not filled in.",
        remedy="Send ISO 8601 with an offset, `2015-02-02T00:30:08.276Z`, or milliseconds since 1970.",
        allowed="a time in ISO 8601, or a number of seconds or milliseconds since 1970",
        link=Docs.TIMESTAMPS,
    ),
    _entry(
        Warned.TIMESTAMP_OUT_OF_RANGE,
        meaning="Counted back from the time of reception, the message would lie before the year 1 or after the year "
        "9999, so the correction was left out and the client's own time stands.",
        senders="Devices whose clock is unset, and somebody who tests the server.",
        remedy="Nothing, for a single one. If a device does so often, set its clock.",
        allowed="a time between the years 1 and 9999, after correction too",
        link=Docs.TIMESTAMPS,
    ),
    _entry(
        Warned.SENT_AT_UNPARSABLE,
        meaning="`sentAt` could not be read, so it is not known how far the client's clock is off, and the client's "
        "own time stands.",
        senders="Hand-written clients that format it for people.",
        remedy="Send ISO 8601, or leave `sentAt` out.",
        allowed="a time in ISO 8601, or a number of seconds or milliseconds since 1970",
        link=Docs.TIMESTAMPS,
    ),
    _entry(
        Warned.WRITE_KEY_MISMATCH,
        meaning="The request gave more than one write key. The one in the header wins over that in the body, and that "
        "over the one in the query. The message belongs to the source of the key that won.",
        senders="Proxies that add a key of their own; apps that have two SDKs with two keys; batches put together from "
        "the queues of several sources.",
        remedy="See that the source is the one you meant. Give each request one key.",
        allowed="one write key in a request",
        link=Docs.AUTHENTICATION,
    ),
    _entry(
        Warned.INTEGRATION_IGNORED,
        meaning="A value in `integrations` is neither true, false nor an object with options; or `All` is not a "
        "boolean. It counts as if it were not there, so the default holds for that destination.",
        senders='Clients that send `"true"` as text, 1 and 0, or null.',
        remedy="Send true or false, or an object with options for that destination.",
        allowed="a boolean, or an object; for `All` a boolean",
        link=Docs.INTEGRATIONS,
    ),
    _entry(
        Warned.INTEGRATION_CASE,
        meaning="Names of destinations are case sensitive. This one matches a destination but for upper and lower "
        "case, so it names none, and that destination was decided on by the default.",
        senders="Code that writes `mixpanel` for `Mixpanel`, or `all` for `All`.",
        remedy="Write the name as the configuration has it.",
        allowed="the name of a destination, to the letter",
        link=Docs.INTEGRATIONS,
    ),
    _entry(
        Warned.REPAIRED,
        meaning="The message was rejected, or lay in quarantine, when it came. It was received once more after the "
        "configuration was mended. Its `receivedAt` is the time of the first reception, and its sequence number that "
        "of the repair.",
        senders="Nobody: `trackcore rejected --retry` and the debugger do this.",
        remedy="Nothing is wrong any more.",
        link=Docs.ERRORS,
    ),
)

WARNINGS: Mapping[str, Entry] = {entry.code: entry for entry in _WARNINGS}

QUARANTINE = Entry(
    code="unknown_source",
    title="The write key is missing, or belongs to no source.",
    meaning="It is not known whose request this is, so nothing in it was looked at. The answer was 200, as the API is "
    "documented to give, so that the sender does not know. The whole request is kept in quarantine.",
    senders="Apps that still have the key of another environment, or a placeholder; clients that send the key as the "
    "password, or as a Bearer token; scanners of the internet.",
    remedy="If the key is yours, add it to a source's `write_keys`, reload the configuration, and receive the request "
    "again with `trackcore rejected --quarantine --retry`.",
    allowed="a write key of a source: as the user name of Basic authentication, or `writeKey` in the body",
    link=Docs.AUTHENTICATION,
)

CATALOGUE: Mapping[str, Entry] = {**REJECTIONS, **WARNINGS, QUARANTINE.code: QUARANTINE}
"""Every entry by its code: rejections, warnings, and the one for what is in quarantine."""
