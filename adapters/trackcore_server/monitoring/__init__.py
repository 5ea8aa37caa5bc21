"""The metrics of a server: what its processes count, and what the log and the disk show when they are asked."""
