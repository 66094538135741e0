"""Named places where a test ends the process as a crash would, or holds a thread.

Nothing happens unless MILVINE_CRASH_AT or MILVINE_HOLD_AT names one. A child process has the variables, too: a crash in
its work ends the child alone. A thread that is held goes on when it has read a byte of the FIFO that MILVINE_HOLD_FIFO
names.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

_CRASH_AT = os.environ.get("MILVINE_CRASH_AT", "")
_HOLD_AT = os.environ.get("MILVINE_HOLD_AT", "")
# Opened for both, so that neither opening nor reading it depends on the test's end being open.
_HOLD_FIFO = os.open(os.environ["MILVINE_HOLD_FIFO"], os.O_RDWR) if _HOLD_AT else -1


def _pass_by(_point: str) -> None:
    pass


def _stop_if_named(point: str) -> None:
    if point == _CRASH_AT:
        os.kill(os.getpid(), signal.SIGKILL)
    if point == _HOLD_AT:
        os.read(_HOLD_FIFO, 1)


crash_point: Callable[[str], None] = _stop_if_named if _CRASH_AT or _HOLD_AT else _pass_by
