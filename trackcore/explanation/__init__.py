"""Explanations: the meaning of each code, and reports about single messages."""
