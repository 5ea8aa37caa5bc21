"""The catalog: one entry for each code, from which every place that explains a code takes its text.

The command line, the debugger, the description of the API and the README say the same, since they say it from here.
The entries of rejections have a module of their own, `rejections`, for their length.
"""

from __future__ import annotations

from collections.abc import Mapping

from trackcore.errors import WarningCode
from trackcore.explanation.entries import CatalogEntry, Docs
from trackcore.explanation.rejections import REJECTIONS

_WARNINGS = (
    CatalogEntry.of(
        WarningCode.ID_FROM_NUMBER,
        meaning="An id should be text. This one came as a number and is kept as its decimal text: 42 and 42.0 both "
        'become "42". Nothing is lost, unless the client had already rounded a long number.',
        senders="Ruby and PHP code that passes the primary key of a table; JavaScript that does so, where numbers "
        "above 9007199254740991 have lost their last digits before they are sent.",
        remedy="Convert ids to text in the client.",
        allowed="a string",
        link=Docs.IDENTITIES,
    ),
    CatalogEntry.of(
        WarningCode.SURROGATE_REPLACED,
        meaning="A `\\ud800` to `\\udfff` stood alone. Two of them are one character; one of them is none, and no "
        "UTF-8 text can hold it. It was replaced by U+FFFD, the replacement character. All else is as it came.",
        senders="JavaScript and Python code that cuts a text in the middle of an emoji, as `text.slice(0, 100)` does; "
        "mail programs that send the query of a pixel in another encoding than UTF-8.",
        remedy="Cut texts by characters: `[...text].slice(0, 100).join('')`.",
        allowed="whole characters",
        link=Docs.JSON,
    ),
    CatalogEntry.of(
        WarningCode.TIMESTAMP_UNPARSABLE,
        meaning="The time of the message could not be read, so the message has the time at which it was received. What "
        "the client wrote is kept in `originalTimestamp`.",
        senders="Code that formats dates for people: `02/01/2015`, `2 February 2015`; templates not filled in; 0 for a "
        "time that is not known.",
        remedy="Send ISO 8601 with an offset, `2015-02-02T00:30:08.276Z`, or milliseconds since 1970.",
        allowed="a time in ISO 8601, or a count since 1970 that lies between 1973 and 2286; the README lists each form",
        link=Docs.TIMESTAMPS,
    ),
    CatalogEntry.of(
        WarningCode.TIMESTAMP_WITHOUT_OFFSET,
        meaning="A time without an offset can be any of 26 hours. It was taken as UTC. If only one of `timestamp` and "
        "`sentAt` lacks it and means local time, the message is wrong by as much as the client is away from UTC.",
        senders="Flutter's and Python's `DateTime.now()` printed as they are, exports of databases, dates without a "
        "time of day.",
        remedy="Send UTC with a `Z`: `toUtc().toIso8601String()` in Dart, `datetime.now(UTC).isoformat()` in Python.",
        allowed="a time with `Z` or an offset, or a count since 1970",
        link=Docs.TIMESTAMPS,
    ),
    CatalogEntry.of(
        WarningCode.TIMESTAMP_OUT_OF_RANGE,
        meaning="Counted back from the time of reception, the message would lie before the year 1 or after the year "
        "9999, so the correction was left out and the client's own time stands.",
        senders="Devices whose clock is unset, and somebody who tests the server.",
        remedy="Nothing, for a single one. If a device does so often, set its clock.",
        allowed="a time between the years 1 and 9999, after correction too",
        link=Docs.TIMESTAMPS,
    ),
    CatalogEntry.of(
        WarningCode.SENT_AT_UNPARSABLE,
        meaning="`sentAt` could not be read, so it is not known how far the client's clock is off, and the client's "
        "own time stands.",
        senders="Hand-written clients that format it for people.",
        remedy="Send ISO 8601, or leave `sentAt` out.",
        allowed="a time in ISO 8601, or a count since 1970 that lies between 1973 and 2286; the README lists each form",
        link=Docs.TIMESTAMPS,
    ),
    CatalogEntry.of(
        WarningCode.WRITE_KEY_MISMATCH,
        meaning="The request names more than one write key. The first one that belongs to a source counts, in the "
        "order header, body, query. The message belongs to the source of that key.",
        senders="Sites behind Basic authentication, whose user name arrives in the header where the key would be; "
        "proxies that add a key of their own; apps that have two SDKs with two keys; batches put together from the "
        "queues of several sources.",
        remedy="See that the source is the one you meant. Give each request one key.",
        allowed="one write key in a request",
        link=Docs.AUTHENTICATION,
    ),
    CatalogEntry.of(
        WarningCode.INTEGRATION_IGNORED,
        meaning="A value in `integrations` is neither true, false nor an object with options; or `All` is not a "
        "boolean. It counts as if it were not there, so the default holds for that destination.",
        senders='Clients that send `"true"` as text, 1 and 0, or null.',
        remedy="Send true or false, or an object with options for that destination.",
        allowed="a boolean, or an object; for `All` a boolean",
        link=Docs.INTEGRATIONS,
    ),
    CatalogEntry.of(
        WarningCode.INTEGRATION_SAYS_NO,
        meaning="An object selects its destination and carries options for it. This one holds an option that seems to "
        "say no, such as `enabled: false`, which only that destination could interpret: the message goes there.",
        senders="Code that reuses the settings of another system; a copy of the documented `Warehouses` object under "
        "another name.",
        remedy="Send false in place of the object. Only `Warehouses` may be an object that says no: `{all: false}`.",
        allowed="a boolean, or an object with options for the destination",
        link=Docs.INTEGRATIONS,
    ),
    CatalogEntry.of(
        WarningCode.INTEGRATION_CASE,
        meaning="Names of destinations are case sensitive. This one matches a destination but for upper and lower "
        "case, so it names none, and that destination was decided on by the default.",
        senders="Code that writes `mixpanel` for `Mixpanel`, or `all` for `All`.",
        remedy="Write the name as the configuration has it.",
        allowed="the name of a destination, to the letter",
        link=Docs.INTEGRATIONS,
    ),
    CatalogEntry.of(
        WarningCode.FIELD_NEAR_MISS,
        meaning="A field differs from one of the API in upper and lower case, or in `_`, `-` or spaces alone. Names "
        "are taken to the letter, so it was not read as that field: it was kept among the message's other fields. One "
        "that is almost `writeKey` was dropped, since it has the credential of a source. (An import does read times "
        "under such names, where it finds no other, and warns of none that it read.)",
        senders="Rows of a warehouse (`user_id`, `sent_at`), hand-written clients (`messageID`, `timeStamp`).",
        remedy="Write the name as the API has it.",
        allowed="the name of the field, to the letter",
        link=Docs.BATCH,
    ),
    CatalogEntry.of(
        WarningCode.NUMBER_NOT_FINITE,
        meaning="A message that was made in Python held NaN or infinity, as a float or as a Decimal. JSON has no such "
        "number, so null was written, as JavaScript does. Sent over HTTP, the same number makes the body invalid JSON.",
        senders="Python code that passes on the result of a division, an empty mean, or a missing value of pandas.",
        remedy="Leave the property out where there is no number: `math.isfinite` tells.",
        allowed="a finite number, or null",
        link=Docs.JSON,
    ),
    CatalogEntry.of(
        WarningCode.REPAIRED,
        meaning="The message was rejected, or lay in quarantine, when it came. It was received once more after the "
        "configuration was mended. Its `receivedAt` is the time of the first reception, and its sequence number that "
        "of the repair.",
        senders="Nobody: `trackcore rejected --retry` and the debugger do this.",
        remedy="Nothing is wrong any more.",
        link=Docs.ERRORS,
    ),
)

WARNINGS: Mapping[str, CatalogEntry] = {entry.code: entry for entry in _WARNINGS}

QUARANTINE = CatalogEntry(
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

CATALOG: Mapping[str, CatalogEntry] = {**REJECTIONS, **WARNINGS, QUARANTINE.code: QUARANTINE}
"""Every entry by its code: rejections, warnings, and the one for what is in quarantine."""
