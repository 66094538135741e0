"""Named places where a test ends the process as a crash would. Nothing happens unless MILVINE_CRASH_AT names one.

A child process has the variable, too: a point in its work ends the child alone.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

_CRASH_AT = os.environ.get("MILVINE_CRASH_AT", "")


def _pass_by(_point: str) -> None:
    pass


def _crash_if_named(point: str) -> None:
    if point == _CRASH_AT:
        os.kill(os.getpid(), signal.SIGKILL)


crash_point: Callable[[str], None] = _crash_if_named if _CRASH_AT else _pass_by
