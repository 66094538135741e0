"""Named places where a test ends the process as a crash would, or holds a thread.

They have no effect unless MILVINE_CRASH_AT or MILVINE_HOLD_AT names one. A child process inherits the variables, and a
crash in its work ends only the child. A held thread continues after it has read a byte from the FIFO in
MILVINE_HOLD_FIFO.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

_CRASH_AT = os.environ.get("MILVINE_CRASH_AT", "")
_HOLD_AT = os.environ.get("MILVINE_HOLD_AT", "")
# Opened for reading and writing, so that neither open nor read depends on the test's end.
_HOLD_FIFO = os.open(os.environ["MILVINE_HOLD_FIFO"], os.O_RDWR) if _HOLD_AT else -1


def _pass_by(_point: str) -> None:
    pass


def _stop_if_named(point: str) -> None:
    if point == _CRASH_AT:
        os.kill(os.getpid(), signal.SIGKILL)
    if point == _HOLD_AT:
        os.read(_HOLD_FIFO, 1)


crash_point: Callable[[str], None] = _stop_if_named if _CRASH_AT or _HOLD_AT else _pass_by
