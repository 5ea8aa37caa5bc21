"""Stored messages explained, listed as JSON, and rejected ones reprocessed."""
