"""The write path: log, growing rows, flush, index builds, recovery."""
