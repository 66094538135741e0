"""How many rows of a segment the running build of an index has added, told by its child process through a pipe."""

from __future__ import annotations

import contextlib
import os
import struct
import threading

_ROWS = struct.Struct("<Q")
_MOST_BYTES = 4096
"""More than all numbers of one build, so that the child never waits for a reader."""


class BuildProgress:
    """The parent's end. `pipe` is the descriptor for the child."""

    def __init__(self) -> None:
        self._end, self.pipe = os.pipe()
        os.set_blocking(self._end, False)
        self._lock = threading.Lock()
        self._rows = 0

    def rows(self) -> int:
        """The last number; 0 before the first, and for a build that tells none."""
        with self._lock:
            with contextlib.suppress(BlockingIOError):
                told = os.read(self._end, _MOST_BYTES)
                if len(told) >= _ROWS.size:
                    (self._rows,) = _ROWS.unpack(told[-_ROWS.size :])
            return self._rows

    def close(self) -> None:
        """The child has ended, and nobody calls `rows` any more."""
        os.close(self._end)
        os.close(self.pipe)


def tell_rows(pipe: int, rows: int) -> None:
    """Runs in the child."""
    with contextlib.suppress(OSError):  # the build is worth more than its progress
        os.write(pipe, _ROWS.pack(rows))
