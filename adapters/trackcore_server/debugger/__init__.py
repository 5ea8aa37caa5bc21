"""The data that the debugger shows, read from the log: rows, charts, counts and the newest messages."""
