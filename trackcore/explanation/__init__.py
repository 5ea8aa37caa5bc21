"""Explanations: the meaning of each code, and reports about single messages."""

from trackcore.explanation.explain import duration_text, explain_error, explain_time

__all__ = ["duration_text", "explain_error", "explain_time"]
