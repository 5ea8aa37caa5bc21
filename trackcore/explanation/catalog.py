"""The catalog: one entry for each code; the command line, the debugger, the API and the documentation take its text.

The entries of rejections are in `rejections`, for their length.
"""

from __future__ import annotations

from collections.abc import Mapping

from trackcore.errors import WarningCode
from trackcore.explanation.entries import CatalogEntry, Docs
from trackcore.explanation.plans import PLAN_WARNINGS
from trackcore.explanation.rejections import REJECTIONS

_WARNINGS = (
    CatalogEntry(
        code=WarningCode.ID_FROM_NUMBER,
        meaning="An id should be a string. This one came as a number and was converted: 42 and 42.0 both become "
        '"42". Nothing is lost, unless the client had already rounded a long number.',
        senders="Ruby and PHP code that passes the primary key of a table; JavaScript that does so, where numbers "
        "above 9007199254740991 have lost their last digits before they are sent.",
        remedy="Convert ids to strings in the client.",
        allowed="a string",
        link=Docs.IDENTITIES,
    ),
    CatalogEntry(
        code=WarningCode.SURROGATE_REPLACED,
        meaning="An escape from `\\ud800` to `\\udfff` was unpaired. Only two of them together are a character; a "
        "single one cannot be encoded in UTF-8. It was replaced with U+FFFD, the replacement character. Everything "
        "else is unchanged.",
        senders="JavaScript and Python code that cuts a string in the middle of an emoji, as `text.slice(0, 100)` "
        "does; mail programs that send the query of a pixel in another encoding than UTF-8.",
        remedy="Cut strings by characters: `[...text].slice(0, 100).join('')`.",
        allowed="whole characters",
        link=Docs.JSON,
    ),
    CatalogEntry(
        code=WarningCode.TIMESTAMP_UNPARSABLE,
        meaning="The time of the message could not be parsed, so the message has the time at which it was received. "
        "The client's text is kept in `originalTimestamp`.",
        senders="Code that formats dates for people: `02/01/2015`, `2 February 2015`; templates that were not filled "
        "in; 0 for an unknown time.",
        remedy="Send ISO 8601 with an offset, `2015-02-02T00:30:08.276Z`, or milliseconds since 1970.",
        allowed="a time in ISO 8601, or a count since 1970 that lies between 1973 and 2286; the manual lists each form",
        link=Docs.TIMESTAMPS,
    ),
    CatalogEntry(
        code=WarningCode.TIMESTAMP_WITHOUT_OFFSET,
        meaning="A time without an offset is ambiguous by 26 hours. UTC was assumed. If only one of `timestamp` and "
        "`sentAt` lacks the offset and means local time, the message is wrong by the client's offset from UTC.",
        senders="`DateTime.now()` of Flutter and `datetime.now()` of Python, printed as they are; exports of "
        "databases; dates without a time of day.",
        remedy="Send UTC with a `Z`: `toUtc().toIso8601String()` in Dart, `datetime.now(UTC).isoformat()` in Python.",
        allowed="a time with `Z` or an offset, or a count since 1970",
        link=Docs.TIMESTAMPS,
    ),
    CatalogEntry(
        code=WarningCode.TIMESTAMP_OUT_OF_RANGE,
        meaning="Counted back from the time of reception, the message would be before the year 1 or after the year "
        "9999, so the correction was omitted and the client's own time was kept.",
        senders="Devices whose clock is unset, and someone probing the server.",
        remedy="Nothing, for a single one. If a device does so often, set its clock.",
        allowed="a time between the years 1 and 9999, also after correction",
        link=Docs.TIMESTAMPS,
    ),
    CatalogEntry(
        code=WarningCode.SENT_AT_UNPARSABLE,
        meaning="`sentAt` could not be parsed, so the error of the client's clock is unknown, and the client's own "
        "time was kept.",
        senders="Hand-written clients that format it for people.",
        remedy="Send ISO 8601, or omit `sentAt`.",
        allowed="a time in ISO 8601, or a count since 1970 that lies between 1973 and 2286; the manual lists each form",
        link=Docs.TIMESTAMPS,
    ),
    CatalogEntry(
        code=WarningCode.WRITE_KEY_MISMATCH,
        meaning="The request contains more than one write key. The first one that belongs to a source counts, in the "
        "order header, body, query. The message belongs to the source of that key.",
        senders="Sites behind Basic authentication, whose user name arrives in the header where the key would be; "
        "proxies that add another key; apps that have two SDKs with two keys; batches put together from the queues of "
        "several sources.",
        remedy="Check that the source is the one you meant. Send one key with each request.",
        allowed="one write key in a request",
        link=Docs.AUTHENTICATION,
    ),
    CatalogEntry(
        code=WarningCode.INTEGRATION_IGNORED,
        meaning="A value in `integrations` is neither true, false nor an object with options; or `All` is not a "
        "boolean. It was ignored, so the default applies to that destination.",
        senders='Clients that send `"true"` as a string, 1 and 0, or null.',
        remedy="Send true or false, or an object with options for that destination.",
        allowed="a boolean, or an object; for `All` a boolean",
        link=Docs.INTEGRATIONS,
    ),
    CatalogEntry(
        code=WarningCode.INTEGRATION_SAYS_NO,
        meaning="An object selects its destination and carries options for it. This one contains an option that seems "
        "meant to exclude, such as `enabled: false`, which only that destination could interpret: the message goes "
        "there.",
        senders="Code that reuses the settings of another system; a copy of the documented `Warehouses` object under "
        "another name.",
        remedy="Send false instead of the object. Only the object of `Warehouses` can exclude: `{all: false}`.",
        allowed="a boolean, or an object with options for the destination",
        link=Docs.INTEGRATIONS,
    ),
    CatalogEntry(
        code=WarningCode.INTEGRATION_CASE,
        meaning="Names of destinations are case-sensitive. This one matches a destination except for case, so it has "
        "no effect, and the default decided about that destination.",
        senders="Code that writes `mixpanel` for `Mixpanel`, or `all` for `All`.",
        remedy="Write the name as in the configuration.",
        allowed="the exact name of a destination",
        link=Docs.INTEGRATIONS,
    ),
    CatalogEntry(
        code=WarningCode.FIELD_NEAR_MISS,
        meaning="A field name differs from one of the API only in case, or in `_`, `-` or spaces. Names must match "
        "exactly, so it was not read as that field: it was kept among the message's other fields. A name that almost "
        "matches `writeKey` was dropped, since its value is the credential of a source. (An import does read times "
        "under such names if it finds no other, without a warning.)",
        senders="Rows of a warehouse (`user_id`, `sent_at`), hand-written clients (`messageID`, `timeStamp`).",
        remedy="Write the name as in the API.",
        allowed="the exact name of the field",
        link=Docs.BATCH,
    ),
    CatalogEntry(
        code=WarningCode.NUMBER_NOT_FINITE,
        meaning="A message that was made in Python held NaN or infinity, as a float or as a Decimal. JSON cannot "
        "express them, so null was written, as JavaScript does. Over HTTP, the same number makes a body invalid JSON.",
        senders="Python code that passes on the result of a division, an empty mean, or a missing value of pandas.",
        remedy="Omit the property if the number is not finite: check it with `math.isfinite`.",
        allowed="a finite number, or null",
        link=Docs.JSON,
    ),
    *PLAN_WARNINGS,
    CatalogEntry(
        code=WarningCode.REPAIRED,
        meaning="The message was rejected or quarantined when it was first received, and reprocessed after the cause "
        "was fixed. Its `receivedAt` is the time of the first reception, and its sequence number is from the time of "
        "the repair.",
        senders="No client: `trackcore rejected --retry` and the debugger do this.",
        remedy="Nothing to do.",
        link=Docs.ERRORS,
    ),
)

WARNINGS: Mapping[str, CatalogEntry] = {entry.code: entry for entry in _WARNINGS}

QUARANTINE = CatalogEntry(
    code="unknown_source",
    title="The write key is missing, or belongs to no source.",
    meaning="The owner of this request is unknown, so nothing else in it was examined. The response was 200, as "
    "documented for the API, so the sender does not notice. The whole request is kept in quarantine.",
    senders="Apps that still have the key of another environment, or a placeholder; clients that send the key as the "
    "password, or as a Bearer token; scanners of the internet.",
    remedy="If the key is yours, add it to a source's `write_keys`, reload the configuration, and reprocess the "
    "request with `trackcore rejected --quarantine --retry`.",
    allowed="a write key of a source: as the user name of Basic authentication, or `writeKey` in the body",
    link=Docs.AUTHENTICATION,
)

CATALOG: Mapping[str, CatalogEntry] = {**REJECTIONS, **WARNINGS, QUARANTINE.code: QUARANTINE}
"""Every entry by its code: rejections, warnings, and the one for quarantined requests."""
