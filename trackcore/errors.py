"""Everything that can be wrong with a request or a message, in one table, and the exceptions that carry it.

Theory.  There are three ways to fail and they are never mixed:

- `InvalidRequest`: the request body is unusable as a whole (not JSON, too large).  HTTP answers 400.
- `InvalidMessage`: one message is bad.  HTTP answers 200 with an error for that message; its neighbours are stored.
- a `MessageWarning`: the message is accepted, but part of it was normalized or ignored.  It is stored with the message.

Reason codes are Segment's published discard codes where one exists
(https://segment.com/docs/connections/delivery-overview/#discarded-events); they are stable, the sentences are not.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

import attrs


class _Coded(StrEnum):
    """A stable code with the sentence that explains it."""

    sentence: str

    def __new__(cls, code: str, sentence: str = "") -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member


class Reason(_Coded):
    """Why a request or a message was rejected."""

    # The request as a whole: InvalidRequest.
    INVALID_JSON = "invalid_json", "The body is not strict JSON in UTF-8."
    BODY_NOT_OBJECT = "body_not_object", "The body is JSON, but not a JSON object."
    BODY_TOO_LARGE = "body_too_large", "The body is larger than a request may be, after decompression."
    BATCH_NOT_ARRAY = "batch_not_array", "The body of a batch call has no `batch`, or it is not an array."
    INVALID_ENCODING = "invalid_encoding", "The body could not be decompressed as Content-Encoding states."
    INCOMPLETE_BODY = "incomplete_body", "The body ended before its announced length."

    # One message: InvalidMessage.
    MESSAGE_TOO_LARGE = "message_too_large", "The message is larger than one message may be."
    TOO_MANY_MESSAGES = "too_many_messages", "The batch holds more messages than allowed; this one is beyond the limit."
    TOO_DEEP = "too_deep", "Objects and arrays are nested deeper than allowed."
    NUMBER_OUT_OF_RANGE = "number_out_of_range", "A number is too large or has too many digits."
    VALUE_NOT_JSON = "value_not_json", "A message built in Python holds a value that has no JSON form."
    MESSAGE_NOT_OBJECT = "message_not_object", "The message is not a JSON object."
    NO_TYPE = "no_type", "Each message of a batch must contain its `type`."
    UNKNOWN_TYPE = "unknown_type", "`type` is not one of identify, track, page, screen, group, alias."
    NO_USER_ANON_ID = "no_user_anon_id", "The message has neither a userId nor an anonymousId."
    ID_NOT_STRING = "id_not_string", "An id is neither a string nor a number."
    MESSAGE_ID_TOO_LONG = "message_id_too_long", "The messageId has more characters than allowed."
    EVENT_NOT_DEFINED = "event_not_defined", "A track message must name its `event`."
    EVENT_NOT_STRING = "event_not_string", "`event` is not a string."
    NO_GROUP_ID = "no_group_id", "A group message must have a groupId."
    NO_PREVIOUS_ID = "no_previous_id", "An alias message must have a previousId."
    NAME_NOT_STRING = "name_not_string", "`name` is not a string."
    CATEGORY_NOT_STRING = "category_not_string", "`category` is not a string."
    CONTEXT_NOT_OBJECT = "context_not_object", "`context` is not an object."
    INTEGRATIONS_NOT_OBJECT = "integrations_not_object", "`integrations` is not an object."
    PROPERTIES_NOT_OBJECT = "properties_not_object", "`properties` is not an object."
    TRAITS_NOT_OBJECT = "traits_not_object", "`traits` is not an object."
    SOURCE_DISABLED = "source_disabled", "The source of the message is disabled in the configuration."

    # One message of the event "Segment Consent Preference Updated".
    CONSENT_CATEGORYPREFERENCES_SHOULD_EXIST = (
        "consent_categorypreferences_should_exist",
        "The message announces new consent preferences, and has no `context.consent.categoryPreferences`.",
    )
    CONSENT_CATEGORYPREFERENCES_FIELDS_SHOULD_BE_OBJECT = (
        "consent_categorypreferences_fields_should_be_object",
        "The consent preferences that a message announces are not an object.",
    )
    CONSENT_CATEGORYPREFERENCES_FIELDS_SHOULD_BE_BOOL = (
        "consent_categorypreferences_fields_should_be_bool",
        "One of the consent preferences that a message announces is not a boolean.",
    )
    CONSENT_VERSION_SHOULD_BE_NUMBER = (
        "consent_version_should_be_number",
        "The `context.consent.version` of the consent preferences that a message announces is not a number.",
    )
    DEVICE_ADVERTISINGID_SHOULD_BE_STRING = (
        "device_advertisingid_should_be_string",
        "The `context.device.advertisingId` beside the consent preferences that a message announces is not a string.",
    )

    # One message, under the tracking plan of its source.
    PLAN_BLOCKED = "plan_blocked", "The message violates the tracking plan of its source, and was blocked."
    PLAN_OMITTED = "plan_omitted", "Values that violate the tracking plan were omitted; this is the original message."

    # One message of an import, where the time of reception cannot be used instead.
    HISTORICAL_TIME_MISSING = "historical_time_missing", "An imported message does not state when it happened."
    HISTORICAL_TIME_UNPARSABLE = "historical_time_unparsable", "The time of an imported message could not be parsed."


class WarningCode(_Coded):
    """Why an accepted message carries a warning."""

    ID_FROM_NUMBER = "id_from_number", "A numeric id was converted to a string."
    SURROGATE_REPLACED = "surrogate_replaced", "An unpaired UTF-16 surrogate was replaced with U+FFFD."
    TIMESTAMP_UNPARSABLE = ("timestamp_unparsable", "The timestamp could not be parsed; receivedAt is used instead.")
    TIMESTAMP_WITHOUT_OFFSET = ("timestamp_without_offset", "A time has no offset from UTC; UTC was assumed.")
    TIMESTAMP_OUT_OF_RANGE = "timestamp_out_of_range", "The corrected time lies outside the years 1 to 9999."
    SENT_AT_UNPARSABLE = "sent_at_unparsable", "`sentAt` could not be parsed, so clock skew was not corrected."
    WRITE_KEY_MISMATCH = "write_key_mismatch", "The request names another write key than the one that was used."
    INTEGRATION_IGNORED = (
        "integration_ignored",
        "A value in `integrations` is neither a boolean nor an object; it was ignored.",
    )
    INTEGRATION_SAYS_NO = (
        "integration_says_no",
        "An object in `integrations` seems to exclude its destination, but an object selects it.",
    )
    INTEGRATION_CASE = ("integration_case", "A name in `integrations` matches a destination except for case.")
    FIELD_NEAR_MISS = (
        "field_near_miss",
        "A field name almost matches a known one; the field was kept as it is, or dropped if it is a write key.",
    )
    NUMBER_NOT_FINITE = "number_not_finite", "NaN and infinity have no JSON form; null was written instead."
    PLAN_UNPLANNED_EVENT = "plan_unplanned_event", "The tracking plan has no event of this name."
    PLAN_UNPLANNED_PROPERTY = "plan_unplanned_property", "The tracking plan has no such property or trait."
    PLAN_REQUIRED_MISSING = "plan_required_missing", "A property or trait that the tracking plan requires is missing."
    PLAN_WRONG_TYPE = "plan_wrong_type", "A value has another type than in the tracking plan."
    PLAN_WRONG_VALUE = "plan_wrong_value", "A value is outside of those that the tracking plan allows."
    PLAN_COMMON_RULE = "plan_common_rule", "The message violates the rule of the tracking plan for all messages."
    REPAIRED = "repaired", "The message was rejected at first and accepted on retry, after the cause was fixed."


def _cut_message(text: str, most: int = 160) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _cut_path(text: str) -> str:
    return _cut_message(text, 60)


@attrs.frozen(kw_only=True)
class MessageWarning:
    """One thing that was normalized or ignored in an accepted message.

    `path` is the wire path inside the message (`context.ip`), empty for the message as a whole.  Both texts quote what
    the client sent and are cut: a warning is stored with each message of a batch, so a long name would be too.
    """

    code: WarningCode
    message: str = attrs.field(converter=_cut_message)
    path: str = attrs.field(default="", converter=_cut_path)


@attrs.define(eq=False)
class TrackcoreError(Exception):
    """The base of every exception that trackcore raises on purpose::

        TrackcoreError
        ├── Invalid                 something that a client sent breaks a rule
        │   ├── InvalidRequest      the request as a whole
        │   └── InvalidMessage      one message
        ├── MessagesRejected        strict mode: not every message of a request was accepted
        ├── SinkUnavailable         nothing was stored; retry later
        ├── LogChanged              a mark belongs to another log
        ├── InvalidPlan             a tracking plan has mistakes; InvalidSchema, for one of its schemas
        └── in the adapters
            ├── UnusableFile        trackcore_sqlitefile; UnusableLog (trackcore_sqlite), UnusableState (delivery)
            ├── UnusableCluster, ClientSettingRefused, NotAcknowledged     trackcore_kafka
            ├── PermanentError, RetryLater, FeedUnavailable, UnusableSecret, SamePlace     trackcore_delivery
            └── ConfigurationError  trackcore_server

    Subclasses are attrs classes.  They compare by value, so a test can state exactly what it expects, and they pickle,
    so they cross process boundaries; attrs does neither for exceptions.  Each shows its `detail`, behind its `file` and
    its `path` where it has them, unless it has a sentence of another form.
    """

    def __str__(self) -> str:
        values = self._values()
        if "detail" not in values:
            return super().__str__()
        where = [str(values[name]) for name in ("file", "path") if values.get(name)]
        return ": ".join([*where, values["detail"]])

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((self.__class__, *self._values().values()))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.__class__, self._values())

    def _values(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}


def _rebuild(cls: type[TrackcoreError], values: dict[str, Any]) -> TrackcoreError:
    return cls(**values)


@attrs.define(kw_only=True, eq=False)
class Invalid(TrackcoreError):
    """Something that a client sent breaks a rule.

    `path` is the wire path (for `batch[3].userId` the index is 3 and the path `userId`), `limit` and `actual` are in
    the unit of the limit that was broken, `position` is the byte at which the text stopped being JSON.
    """

    reason: Reason
    detail: str
    path: str = ""
    limit: int | None = None
    actual: int | None = None
    position: int | None = None


@attrs.define(kw_only=True, eq=False)
class InvalidRequest(Invalid):
    """The request as a whole cannot be used."""


@attrs.define(kw_only=True, eq=False)
class InvalidMessage(Invalid):
    """One message cannot be accepted."""
