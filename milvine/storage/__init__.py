"""Durable bytes: sealed files, the log, segment files, garbage."""
