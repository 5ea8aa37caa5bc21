"""Stored messages explained, listed as JSON, and rejected ones received again."""
