"""The entries of the catalog about tracking plans."""

from __future__ import annotations

from trackcore.errors import Reason, WarningCode
from trackcore.explanation.entries import CatalogEntry, Docs

_CHANGE = (
    "Change the program, or the plan if it is behind. `trackcore plan replay` shows what a changed plan would say."
)

PLAN_REJECTIONS = (
    CatalogEntry(
        code=Reason.PLAN_BLOCKED,
        meaning="The source has a tracking plan, and its controls block messages like this one. It is in no "
        "destination and not among the messages, but kept as it was received. The answer was a 200, as at Segment.",
        senders="Programs whose tracking differs from the plan: an event under another name, a price sent as text.",
        remedy=f"{_CHANGE} Then receive the message again: `trackcore rejected --retry`.",
        allowed="a message as the plan describes it",
        link=Docs.PLANS,
    ),
    CatalogEntry(
        code=Reason.PLAN_OMITTED,
        meaning="The message was stored without some of its values, since the controls of its source omit those that "
        "violate the plan. This is the message as it was received, with all of its values.",
        senders="Programs that send more than is planned, or values of another type.",
        remedy=_CHANGE,
        allowed="the properties and traits in the plan",
        link=Docs.PLANS,
    ),
)

PLAN_WARNINGS = (
    CatalogEntry(
        code=WarningCode.PLAN_UNPLANNED_EVENT,
        meaning="No rule of the plan is about an event of this name. Names match exactly, with case and spaces.",
        senders="Programs that write the name in another way, and new events that were not planned yet.",
        remedy=f"Use the planned name, which the warning shows if one is near. {_CHANGE}",
        allowed="the exact name of a planned event",
        link=Docs.PLANS,
    ),
    CatalogEntry(
        code=WarningCode.PLAN_UNPLANNED_PROPERTY,
        meaning="The rule for this message lists its properties or traits, and this one is not among them.",
        senders="Programs that write the name in another way, or send whole objects of their own.",
        remedy=f"Use the planned name, which the warning shows if one is near. {_CHANGE}",
        allowed="the names in the plan",
        link=Docs.PLANS,
    ),
    CatalogEntry(
        code=WarningCode.PLAN_REQUIRED_MISSING,
        meaning="The plan requires a property or trait that the message does not have.",
        senders="Programs that omit a value they do not know, or that send it under another name.",
        remedy=_CHANGE,
        allowed="every required property and trait",
        link=Docs.PLANS,
    ),
    CatalogEntry(
        code=WarningCode.PLAN_WRONG_TYPE,
        meaning="The value has another type than in the plan. Nothing was converted.",
        senders="Prices and counts that are sent as text; null for an unknown value.",
        remedy=_CHANGE,
        allowed="a value of the planned type",
        link=Docs.PLANS,
    ),
    CatalogEntry(
        code=WarningCode.PLAN_WRONG_VALUE,
        meaning="The value has the planned type, but not one of the planned values: it breaks an enum, a pattern, a "
        "format or a bound.",
        senders="Programs that write a value in another way, such as a currency in lower case.",
        remedy=_CHANGE,
        allowed="a value as the rule describes it",
        link=Docs.PLANS,
    ),
    CatalogEntry(
        code=WarningCode.PLAN_COMMON_RULE,
        meaning="The plan has a rule for all messages, and this message violates it.",
        senders="Programs that omit the shared fields, often in one place of many.",
        remedy=_CHANGE,
        allowed="a message as the common rule describes it",
        link=Docs.PLANS,
    ),
)
