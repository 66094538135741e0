"""Provokes rare interleavings of threads: functions of one part of milvine pause when they are called and return.

Python imports this module at start if its directory is in PYTHONPATH. `make delays` runs the tests and their servers
this way, once for each part. `MILVINE_DELAYS` is the part and their number, "0/8". The main thread does not pause.
"""

from __future__ import annotations

import os
import threading
import time
import zlib
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

PAUSE_SECONDS = 0.01
PAUSES = 300
"""Pauses of one function in one process, so that a function called for every row still ends."""
_PACKAGE = str(Path(__file__).resolve().parents[2] / "milvine") + os.sep
_part, _parts = map(int, os.environ.get("MILVINE_DELAYS", "0/1").split("/"))
_left: dict[CodeType, int] = {}


def _pauses(code: CodeType) -> int:
    if not code.co_filename.startswith(_PACKAGE):
        return 0
    # A hash that is the same in every process and does not depend on other functions.
    name = f"{code.co_filename.removeprefix(_PACKAGE)}:{code.co_qualname}"
    return PAUSES if zlib.crc32(name.encode()) % _parts == _part else 0


def _pause(frame: FrameType, event: str, _argument: Any) -> None:
    if event not in ("call", "return"):
        return
    left = _left.get(frame.f_code)
    if left is None:
        left = _pauses(frame.f_code)
    _left[frame.f_code] = max(0, left - 1)
    if left:
        time.sleep(PAUSE_SECONDS)


if "MILVINE_DELAYS" in os.environ:
    threading.setprofile(_pause)
