"""The catalog of rejections: one entry for each `Reason`, in the order of the enumeration."""

from __future__ import annotations

from collections.abc import Mapping

from trackcore.errors import Reason
from trackcore.explanation.entries import CatalogEntry, Docs
from trackcore.explanation.plans import PLAN_REJECTIONS

_HARM_OF_400 = "SDKs drop the whole request on a 400; its messages are lost on the client."
_AS_ARGUMENT = (
    "Look for a call whose arguments are in the wrong order: the SDKs of untyped languages do not check them."
)


_ENTRIES = (
    CatalogEntry(
        code=Reason.INVALID_JSON,
        meaning="The body cannot be parsed as JSON, so its messages cannot be separated. The position is the byte at "
        f"which parsing stopped; the mistake is there or just before. {_HARM_OF_400}",
        senders="Python SDKs that get NaN or Infinity (a division by zero, an empty pandas cell) write them as they "
        "are, which is not JSON. Hand-written clients forget quotes, leave a trailing comma, or send Latin-1. A proxy "
        "that cuts a body short leaves JSON without an end.",
        remedy="Send text in UTF-8 that a strict parser accepts. In Python replace NaN with None before the call. Look "
        "at the raw bytes around the position.",
        allowed="one JSON text in UTF-8, without NaN or Infinity, and nothing behind it",
        link=Docs.JSON,
    ),
    CatalogEntry(
        code=Reason.BODY_NOT_OBJECT,
        meaning="The body is well-formed, but it is an array, a string or a number where one object belongs: a "
        f"message, or a batch with its messages in `batch`. {_HARM_OF_400}",
        senders="Hand-written clients that send `[message, message]`, or that encode twice, so that the body is a "
        "string that contains JSON.",
        remedy='Wrap the messages: `{"batch": [...]}`. Encode once.',
        allowed="one JSON object",
        link=Docs.BATCH,
    ),
    CatalogEntry(
        code=Reason.BODY_TOO_LARGE,
        meaning="The body, after decompression, has more bytes than a request may have. It is kept only up to the "
        f"limit, so it cannot be reprocessed. {_HARM_OF_400}",
        senders="Clients that build batches by the number of messages alone. The Node SDKs compute the size wrongly "
        "and can build batches of 3 MB. Importers of old data.",
        remedy="Send fewer messages in a batch, or raise `request_bytes` under `[limits]`. Honest SDKs stay below "
        "513,100 bytes.",
        allowed="at most {request_bytes:,} bytes, after decompression",
        link=Docs.LIMITS,
    ),
    CatalogEntry(
        code=Reason.BATCH_NOT_ARRAY,
        meaning="A request came to a path for batches, but its object has no array `batch`. Without it there is no "
        f"message to keep. {_HARM_OF_400}",
        senders="Clients that send a single message to /v1/batch, or that name the array `messages` or `events`.",
        remedy="Put the messages into an array `batch`, or send a single message to the path of its call, /v1/track.",
        allowed="an array",
        link=Docs.BATCH,
    ),
    CatalogEntry(
        code=Reason.INVALID_ENCODING,
        meaning="The header Content-Encoding names something that is not supported, or the body does not match it: a "
        f"broken or truncated gzip stream. {_HARM_OF_400}",
        senders="Clients that set the header and forget to compress, that use deflate, br or zstd, and proxies that "
        "decompress a body but leave the header.",
        remedy="Compress with gzip, or leave the header out.",
        allowed="gzip (or x-gzip), identity, or no such header",
        link=Docs.ERRORS,
    ),
    CatalogEntry(
        code=Reason.INCOMPLETE_BODY,
        meaning="The connection ended before all the bytes announced by Content-Length had arrived, or the chunked "
        "encoding is broken, so that the end of the body cannot be found. The part that arrived is kept.",
        senders="Apps that are closed, phones that lose the network, proxies that give up too early. Also a "
        "Content-Length that counts characters where it should count bytes.",
        remedy="SDKs retry the request by themselves. If it happens often, look at the timeouts of the proxies.",
        allowed="as many bytes as Content-Length announces",
        link=Docs.ERRORS,
    ),
    CatalogEntry(
        code=Reason.MESSAGE_TOO_LARGE,
        meaning="One message has more bytes than a message may have, measured on its own source text, spaces "
        "included. The other messages of a batch are not affected; sent alone, it is answered with 400.",
        senders="Page content, base64 images, stack traces and whole API answers in `properties`; traits that grow.",
        remedy="Send a reference instead of the content. Or raise `message_bytes` under `[limits]` and reprocess the "
        "message with `trackcore rejected --retry`.",
        allowed="at most {message_bytes:,} bytes",
        link=Docs.LIMITS,
    ),
    CatalogEntry(
        code=Reason.TOO_MANY_MESSAGES,
        meaning="The batch has more messages than a batch may have. The first ones, up to the limit, are accepted; "
        "this one was in excess. Of a very large batch the last record represents all the messages after it.",
        senders="Importers, and clients that flush a long queue at once, for example after days offline.",
        remedy="Send smaller batches, or raise `batch_messages` under `[limits]` and reprocess the excess with "
        "`trackcore rejected --retry`.",
        allowed="at most {batch_messages:,} messages in a batch",
        link=Docs.LIMITS,
    ),
    CatalogEntry(
        code=Reason.TOO_DEEP,
        meaning="Objects and arrays are nested deeper than allowed. No destination can use such a message, and parsing "
        "it could exhaust a program's stack.",
        senders="Clients that serialize objects which refer to each other: a DOM node, an ORM entity, a linked list. "
        "Someone probing the server.",
        remedy="Send the few fields that matter instead of the whole object.",
        allowed="at most {depth} levels below the message",
        link=Docs.LIMITS,
    ),
    CatalogEntry(
        code=Reason.NUMBER_OUT_OF_RANGE,
        meaning="A number cannot be represented exactly: it is larger than 1.8e308, or has more than 4,300 digits.",
        senders="Almost no real client; overflowing counters, and someone probing the server.",
        remedy="Send such a number as a string.",
        allowed="a number of at most 4,300 digits, and below 1.8e308",
        link=Docs.JSON,
    ),
    CatalogEntry(
        code=Reason.VALUE_NOT_JSON,
        meaning="A message that was made in Python and submitted in process holds a value that has no JSON form. "
        "Nothing of that call was stored. This never comes from the network.",
        senders="Code that puts custom objects, sets or open files into `properties`, `traits` or `context`.",
        remedy="Convert the value first: to text, to a number, to a list.",
        allowed="None, booleans, numbers, text, lists and dicts with text as keys",
        link=Docs.JSON,
    ),
    CatalogEntry(
        code=Reason.MESSAGE_NOT_OBJECT,
        meaning="An item of the batch is not an object, so it has no fields to check.",
        senders="Hand-written clients that leave a null in the array, or that encode each message as a string.",
        remedy="Omit empty items; put objects, not their text, into `batch`.",
        allowed="a JSON object",
        link=Docs.BATCH,
    ),
    CatalogEntry(
        code=Reason.NO_TYPE,
        meaning="In a batch the path does not determine the type of a message, so each message must contain it.",
        senders="Clients that move messages from the paths of single calls into a batch.",
        remedy="Add `type` to each message of a batch.",
        allowed="identify, track, page, screen, group or alias",
        link=Docs.BATCH,
    ),
    CatalogEntry(
        code=Reason.UNKNOWN_TYPE,
        meaning="`type` names no call of the API. The comparison is case-sensitive: `Track` is not `track`.",
        senders="Clients that put the name of the event into `type`, capital letters, and calls of other products, "
        "such as `merge` or `delete`.",
        remedy="Use one of the six names, in lower case. The name of an event goes into `event`.",
        allowed="identify, track, page, screen, group or alias",
        link=Docs.BATCH,
    ),
    CatalogEntry(
        code=Reason.NO_USER_ANON_ID,
        meaning="The message identifies nobody: it has neither a userId nor an anonymousId. An empty string and null "
        "count as absent, so a message with only `userId: null` is rejected.",
        senders="Server-side code that tracks before a user is known, or reads the id from a session that has expired. "
        'The Node SDKs send `""` for an undefined id.',
        remedy="Assign each unknown visitor an anonymousId, a random one kept in a cookie, and send it with each call.",
        allowed="a userId or an anonymousId that is not empty",
        link=Docs.IDENTITIES,
    ),
    CatalogEntry(
        code=Reason.ID_NOT_STRING,
        meaning="userId, anonymousId, groupId, previousId or messageId is a boolean, an array or an object. (A number "
        "would be converted to a string, with a warning.)",
        senders="Code that passes a whole user object where its id belongs, or MongoDB ids in their JSON form "
        f'`{{"$oid": ...}}`. {_AS_ARGUMENT}',
        remedy="Send the id itself, as a string.",
        allowed="a string, or a number",
        link=Docs.IDENTITIES,
    ),
    CatalogEntry(
        code=Reason.MESSAGE_ID_TOO_LONG,
        meaning="messageId has more characters than allowed. It is the key by which duplicates are found, so it is "
        "never cut: two cut ids could become equal, and a message would be lost.",
        senders="Clients that build the id from the content of the message, from a URL, or from several other ids.",
        remedy="Use a UUID, or a digest of the long id.",
        allowed="at most {message_id_chars} characters",
        link=Docs.MESSAGE_ID,
    ),
    CatalogEntry(
        code=Reason.EVENT_NOT_DEFINED,
        meaning="A track message does not name the action: `event` is missing, null or empty.",
        senders="Code that takes the name from a table that lacks it; clients that call the field `name` or "
        "`eventName`; pixels without an `event` in the query.",
        remedy='Send the name of the action in `event`, such as "Item Purchased".',
        allowed="a string that is not empty",
        link=Docs.TRACK,
    ),
    CatalogEntry(
        code=Reason.EVENT_NOT_STRING,
        meaning="`event` of a track message is a number, a boolean, an array or an object.",
        senders=f"Code that sends the number of an event, or a whole object. {_AS_ARGUMENT}",
        remedy="Send a name, as a string.",
        allowed="a string",
        link=Docs.TRACK,
    ),
    CatalogEntry(
        code=Reason.NO_GROUP_ID,
        meaning="A group message does not name its group: `groupId` is missing, null or empty.",
        senders="Apps whose users belong to no company yet; clients that put the id into `traits.id`.",
        remedy="Send `groupId`, and skip the group call for users without a group.",
        allowed="a string that is not empty, or a number",
        link=Docs.GROUP,
    ),
    CatalogEntry(
        code=Reason.NO_PREVIOUS_ID,
        meaning="An alias message does not name the identity that it replaces: `previousId` is missing, null or empty.",
        senders="Clients that call `alias(newId)` without a former id; code that names the field `from`.",
        remedy="Send the former id in `previousId` and the new one in `userId`.",
        allowed="a string that is not empty, or a number",
        link=Docs.ALIAS,
    ),
    CatalogEntry(
        code=Reason.NAME_NOT_STRING,
        meaning="`name` of a page or a screen is a number, a boolean, an array or an object. (null and the empty "
        "string count as absent.)",
        senders=f"`page({{...}})` instead of `page(null, {{...}})`. {_AS_ARGUMENT}",
        remedy="Send a name as a string, or none; the description of the page goes into `properties`.",
        allowed="a string, or nothing",
        link=Docs.PAGE,
    ),
    CatalogEntry(
        code=Reason.CATEGORY_NOT_STRING,
        meaning="`category` of a page or a screen is a number, a boolean, an array or an object. (null and the empty "
        "string count as absent.)",
        senders=f"Shops that send the number of a category, or a list of several. {_AS_ARGUMENT}",
        remedy="Send one category as a string; a list goes into `properties`.",
        allowed="a string, or nothing",
        link=Docs.PAGE,
    ),
    CatalogEntry(
        code=Reason.CONTEXT_NOT_OBJECT,
        meaning="`context` is a string, a number, a boolean or a non-empty array. The `context` of a batch is merged "
        "into each of its messages, so a wrong one there rejects all of them.",
        senders=f"Code that encodes `context` as JSON before the call, so that it is a string. {_AS_ARGUMENT}",
        remedy="Send an object, or leave the field out. (null and the `[]` of PHP count as absent.)",
        allowed="an object, or nothing",
        link=Docs.CONTEXT,
    ),
    CatalogEntry(
        code=Reason.INTEGRATIONS_NOT_OBJECT,
        meaning="`integrations` is a string, a number, a boolean or a non-empty array, so it cannot select "
        "destinations. A wrong one at the batch level rejects all messages of the batch.",
        senders='Clients that send a list of names, `["Mixpanel"]`, or `"All"`.',
        remedy='Send an object: `{"All": false, "Mixpanel": true}`.',
        allowed="an object, or nothing",
        link=Docs.INTEGRATIONS,
    ),
    CatalogEntry(
        code=Reason.PROPERTIES_NOT_OBJECT,
        meaning="`properties` is a string, a number, a boolean or a non-empty array.",
        senders=f"Code that encodes the properties as JSON before the call. {_AS_ARGUMENT}",
        remedy="Send an object, or leave the field out. (null and the `[]` of PHP count as absent.)",
        allowed="an object, or nothing",
        link=Docs.TRACK,
    ),
    CatalogEntry(
        code=Reason.TRAITS_NOT_OBJECT,
        meaning="`traits` of an identify or a group message is a string, a number, a boolean or a non-empty array, "
        "whose values have no names.",
        senders=f"`identify(email)` instead of `identify(id, {{email}})`. {_AS_ARGUMENT}",
        remedy="Send an object, or leave the field out. (null and the `[]` of PHP count as absent.)",
        allowed="an object, or nothing",
        link=Docs.IDENTITIES,
    ),
    CatalogEntry(
        code=Reason.SOURCE_DISABLED,
        meaning="The write key belongs to a source that the configuration disables, so its messages are not examined "
        "and go nowhere. The response was 200, so that clients do not send them again.",
        senders="Any client of that source, until it is removed or gets another write key.",
        remedy="Remove `enabled = false` from the source, reload the configuration, and reprocess what came meanwhile "
        "with `trackcore rejected --retry`.",
        allowed="a write key of an enabled source",
        link=Docs.AUTHENTICATION,
    ),
    CatalogEntry(
        code=Reason.CONSENT_CATEGORYPREFERENCES_SHOULD_EXIST,
        meaning='A track message of the event "Segment Consent Preference Updated" announces what a user has consented '
        "to, so it must state it. Neither its own `context` nor that of its batch does.",
        senders="Sites that track this event themselves, and set the consent only on the other messages; a consent "
        "banner that fires before its manager has loaded.",
        remedy="Add `context.consent.categoryPreferences`, or rename the event if it means something else.",
        allowed="an object with true or false for each category",
        link=Docs.CONSENT,
    ),
    CatalogEntry(
        code=Reason.CONSENT_CATEGORYPREFERENCES_FIELDS_SHOULD_BE_OBJECT,
        meaning='In a track message of the event "Segment Consent Preference Updated", the preferences are a string, a '
        "number, a boolean or a non-empty array, so no category has a value.",
        senders='Clients that send the list of the categories that were granted, `["Analytics"]`, or a cookie as text.',
        remedy="Send an object with true or false for each category.",
        allowed="an object with true or false for each category",
        link=Docs.CONSENT,
    ),
    CatalogEntry(
        code=Reason.CONSENT_CATEGORYPREFERENCES_FIELDS_SHOULD_BE_BOOL,
        meaning='In a track message of the event "Segment Consent Preference Updated", a category has another value '
        "than true and false. To guess what a user has consented to would be wrong.",
        senders='Clients that pass on the values of a consent manager as they are: `"granted"`, `"1"`, null.',
        remedy="Convert the values to true and false in the client.",
        allowed="true or false for each category",
        link=Docs.CONSENT,
    ),
    CatalogEntry(
        code=Reason.CONSENT_VERSION_SHOULD_BE_NUMBER,
        meaning='In a track message of the event "Segment Consent Preference Updated", `context.consent.version` is '
        "there and is not a number.",
        senders='Clients that set it to the version of their consent text, `"2.1"`.',
        remedy="Send a number, or leave the field out and put the version of a text into `properties`.",
        allowed="a number, or nothing",
        link=Docs.CONSENT,
    ),
    CatalogEntry(
        code=Reason.DEVICE_ADVERTISINGID_SHOULD_BE_STRING,
        meaning='In a track message of the event "Segment Consent Preference Updated", '
        "`context.device.advertisingId` is there and is not a string.",
        senders="Apps that send 0, false or an object where the system gives no advertising id.",
        remedy="Leave the field out where there is no advertising id.",
        allowed="a string, or nothing",
        link=Docs.CONSENT,
    ),
    *PLAN_REJECTIONS,
    CatalogEntry(
        code=Reason.HISTORICAL_TIME_MISSING,
        meaning="A message of an import has no `timestamp`, no `originalTimestamp` and no `receivedAt`. In a request "
        "the time of reception would be used instead; for an archive that would be wrong by years.",
        senders="Exports that omit the time, or have it in a column with an entirely different name.",
        remedy="Name the column `timestamp` and import the file again: messages in the log are not stored twice.",
        allowed="a `timestamp`, an `originalTimestamp` or a `receivedAt`, also in a form such as `received_at`",
        link=Docs.TIMESTAMPS,
    ),
    CatalogEntry(
        code=Reason.HISTORICAL_TIME_UNPARSABLE,
        meaning="A message of an import has a time that cannot be parsed. In a request the time of reception would be "
        "used instead; for an archive that would be wrong by years.",
        senders="Exports that format dates for people, `02/01/2015`, or print counts with an exponent, `1.45e12`.",
        remedy="Write the times as ISO 8601 with an offset and import the file again: messages in the log are not "
        "stored twice.",
        allowed="a time in ISO 8601, or a count since 1970 that lies between 1973 and 2286; the manual lists each form",
        link=Docs.TIMESTAMPS,
    ),
)

REJECTIONS: Mapping[str, CatalogEntry] = {entry.code: entry for entry in _ENTRIES}
