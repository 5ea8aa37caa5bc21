"""The basics of each process: signals that stop it safely, and a log on standard error."""
