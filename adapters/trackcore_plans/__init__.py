"""Tracking plans: their JSON Schemas by `jsonschema-rs`."""

from trackcore_plans.validator import compile_schema

__all__ = ["compile_schema"]
