"""Locks of files that the kernel releases when their holder ends, however it ends. The only file that uses fcntl."""

from __future__ import annotations

import fcntl


def take(descriptor: int, *, waits: bool = False) -> bool:
    """The only lock of an open file; False if another process holds one. It outlasts exec, and children that inherit
    the descriptor hold it too."""
    return _lock(descriptor, fcntl.LOCK_EX, waits)


def share(descriptor: int, *, waits: bool = True) -> bool:
    """A lock that others may share. It waits for the end of an only lock, or is False while another process holds
    one."""
    return _lock(descriptor, fcntl.LOCK_SH, waits)


def _lock(descriptor: int, kind: int, waits: bool) -> bool:
    try:
        fcntl.flock(descriptor, kind | (0 if waits else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
