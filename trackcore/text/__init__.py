"""Texts in any state: JSON as it was received, Unicode cleaned, blank texts, addresses, times."""
