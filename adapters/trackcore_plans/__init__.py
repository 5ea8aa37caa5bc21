"""Tracking plans: their files, in each of the published forms, and their JSON Schemas by `jsonschema-rs`."""

from trackcore_plans.files import Form, PlanFile, load_plan, parse_plan, read_plan, write_plan
from trackcore_plans.validator import compile_schema

__all__ = ["Form", "PlanFile", "compile_schema", "load_plan", "parse_plan", "read_plan", "write_plan"]
