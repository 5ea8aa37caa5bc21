"""Tracking plans: their files, in each of the published forms, and their JSON Schemas by `jsonschema-rs`."""

from trackcore_plans.differences import Difference, differences
from trackcore_plans.files import Form, PlanFile, load_plan, parse_plan, read_plan, write_plan
from trackcore_plans.inference import Inference
from trackcore_plans.lint import Remark, lint
from trackcore_plans.page import html_page, markdown_page
from trackcore_plans.validator import compile_schema

__all__ = [
    "Difference",
    "Form",
    "Inference",
    "PlanFile",
    "Remark",
    "compile_schema",
    "differences",
    "html_page",
    "lint",
    "load_plan",
    "markdown_page",
    "parse_plan",
    "read_plan",
    "write_plan",
]
