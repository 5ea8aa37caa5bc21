"""Tracking plans: what each message should look like, what in a message is not planned, and what happens then.

The validator of JSON Schemas is passed in; the package `trackcore_plans` has one, and reads the files of plans.
"""

from trackcore.plans.controls import Action, Controls, OnCommonViolation, TrackControls, TraitControls, Treatment
from trackcore.plans.documents import (
    DRAFT_07,
    InvalidPlan,
    PlanDocument,
    PlanMistake,
    Rule,
    RuleType,
    section_of,
    subschemas,
    whole_message,
)
from trackcore.plans.enforcement import PLAN_WARNINGS, PlanInForce
from trackcore.plans.json_schema import PlanSchemas
from trackcore.plans.locations import Location, has_value, location_text, value_at, without
from trackcore.plans.names import NameIndex, folded
from trackcore.plans.plan import MAX_RULES, MAX_VIOLATIONS, Plan
from trackcore.plans.planned import names_in, planned_names
from trackcore.plans.schemas import (
    LISTED_ITEMS,
    InvalidSchema,
    SchemaCompiler,
    SchemaError,
    SchemaValidator,
    applied_with,
    check_cost,
    resolve,
)
from trackcore.plans.violations import Violation, ViolationKind

__all__ = [
    "DRAFT_07",
    "LISTED_ITEMS",
    "MAX_RULES",
    "MAX_VIOLATIONS",
    "PLAN_WARNINGS",
    "Action",
    "Controls",
    "InvalidPlan",
    "InvalidSchema",
    "Location",
    "NameIndex",
    "OnCommonViolation",
    "Plan",
    "PlanDocument",
    "PlanInForce",
    "PlanMistake",
    "PlanSchemas",
    "Rule",
    "RuleType",
    "SchemaCompiler",
    "SchemaError",
    "SchemaValidator",
    "TrackControls",
    "TraitControls",
    "Treatment",
    "Violation",
    "ViolationKind",
    "applied_with",
    "check_cost",
    "folded",
    "has_value",
    "location_text",
    "names_in",
    "planned_names",
    "resolve",
    "section_of",
    "subschemas",
    "value_at",
    "whole_message",
    "without",
]
