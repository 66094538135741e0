"""Files of lines that are rotated by size: the audit log and the access log."""

from __future__ import annotations

import logging
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any


class LineFile(RotatingFileHandler):
    """Keeps as many `files`, with the current one; new ones have `permissions`. A full disk does not fail the writer,
    it is reported on stderr."""

    def __init__(self, path: Path, most_bytes: int, files: int, permissions: int = 0o666) -> None:
        self._permissions = permissions
        super().__init__(path, maxBytes=most_bytes, backupCount=max(1, files - 1), encoding="utf-8")

    def _open(self) -> Any:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, self._permissions)
        return os.fdopen(descriptor, "a", encoding="utf-8")

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802 - the name is logging's
        """By one look at the open file: logging's own takes two at the directory, which cost half of a line."""
        if self.stream is None:  # after a failed rotation
            self.stream = self._open()
        return os.fstat(self.stream.fileno()).st_size + len(record.msg) >= self.maxBytes


def write_line(to: logging.Handler, line: str) -> None:
    to.handle(logging.LogRecord("", logging.INFO, "", 0, line, None, None))
