"""Bytes that survive: sealed files, the log, segment files, garbage."""
