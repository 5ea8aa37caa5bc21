"""Messages about violations, for another source: `Violation Generated`, as Segment's Protocols sends it.

Source: https://segment.com/docs/protocols/validate/forward-violations/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

import msgspec

from trackcore.plans.controls import Treatment
from trackcore.plans.documents import PlanDocument
from trackcore.plans.locations import value_at
from trackcore.plans.violations import Violation, ViolationKind
from trackcore.sinks import Envelope
from trackcore.typing import JSONObject

USER_ID = "schema-violations"
_ID_DIGITS = 32
_TYPES: Mapping[str, str] = {
    ViolationKind.UNPLANNED_EVENT: "Unplanned Event",
    ViolationKind.UNPLANNED_PROPERTY: "Unplanned Property",
}
_any_value = msgspec.json.Decoder()


def violation_messages(document: PlanDocument, envelope: Envelope, treatment: Treatment) -> Iterator[JSONObject]:
    """Yield a `Violation Generated` for each violation of a message.

    Its id follows from that of the message, so a message that is sent again makes duplicates.
    """
    message: JSONObject = _any_value.decode(envelope.payload)
    for number, violation in enumerate(treatment.violations):
        seed = f"{envelope.source} {envelope.message_id} {number}".encode()
        yield {
            "type": "track",
            "event": "Violation Generated",
            "userId": USER_ID,
            "messageId": f"sch-{sha256(seed).hexdigest()[:_ID_DIGITS]}",
            "forwardedFromProject": envelope.source,
            "properties": _properties(document, envelope, message, violation),
        }


def _properties(
    document: PlanDocument, envelope: Envelope, message: JSONObject, violation: Violation
) -> dict[str, Any]:
    found = {
        "appVersion": value_at(message, ("context", "app", "version")),
        "eventMessageID": envelope.message_id,
        "eventName": message.get("event"),
        "eventSentAt": message.get("sentAt"),
        "eventTimestamp": message.get("timestamp"),
        "eventType": envelope.call,
        "sourceID": envelope.source,
        "sourceName": envelope.source,
        "sourceSlug": envelope.source,
        "trackingPlanID": document.extra.get("resourceSchemaId", document.extra.get("id")),
        "trackingPlanName": document.name,
        "violationDescription": violation.sentence,
        "violationField": violation.path,
        "violationType": _TYPES.get(violation.kind, violation.keyword.capitalize() or "Unplanned Property"),
    }
    return {name: value for name, value in found.items() if value is not None}
