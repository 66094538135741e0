"""Locks of files that the kernel releases when their holder ends, however it ends. The only file that uses fcntl."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def take(descriptor: int, *, waits: bool = False) -> bool:
    """The only lock of an open file; False if another process holds one. It outlasts exec, and children that inherit
    the descriptor hold it too."""
    return _lock(descriptor, fcntl.LOCK_EX, waits)


def share(descriptor: int, *, waits: bool = True) -> bool:
    """A lock that others may share. It waits for the end of an only lock, or is False while another process holds
    one."""
    return _lock(descriptor, fcntl.LOCK_SH, waits)


@contextmanager
def alone_in(directory: Path) -> Iterator[bool]:
    """Holds the only lock of a directory for the block; False if another process holds it. A directory that cannot be
    locked, as on some network file systems, counts as free."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            is_alone = take(descriptor)
        except OSError:
            is_alone = True
        yield is_alone
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int, waits: bool) -> bool:
    try:
        fcntl.flock(descriptor, kind | (0 if waits else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
