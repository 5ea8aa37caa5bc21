"""What the debugger shows, read from the log: rows, charts, counts and what was received last."""
