"""Delivery as a service: threads or a process that send the messages of a log to the destinations."""
