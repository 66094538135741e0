"""Which processes use the server of a data directory, and where that server listens.

Each user holds a shared lock of one file, which the kernel releases even after `kill -9`. A server that is to end with
its last user tries to lock the file alone.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from milvine import file_locks
from milvine.model.records import record

LOCK_FILE = "LOCK"
"""Locked by the server, and holds its process id."""
_USERS_FILE, _ADDRESS_FILE = "USERS", "server.json"


@record
class Address:
    """Of a server that is ready."""

    pid: int
    uri: str


class Use:
    """One user of a directory, until `end` or the end of the process."""

    def __init__(self, data_dir: Path) -> None:
        """Waits for a server that is ending."""
        self._file = (data_dir / _USERS_FILE).open("ab")
        file_locks.share(self._file.fileno())

    def end(self) -> None:
        self._file.close()


class LastUser:
    """The server's side."""

    def __init__(self, data_dir: Path) -> None:
        self._file = (data_dir / _USERS_FILE).open("ab")

    def is_gone(self) -> bool:
        """Whether the directory has no users. If so, new ones wait until this process has ended."""
        return file_locks.take(self._file.fileno())


def write_address(data_dir: Path, uri: str) -> None:
    """Says where this process listens."""
    text = json.dumps(asdict(Address(os.getpid(), uri)))
    unfinished = data_dir / f"{_ADDRESS_FILE}.new"
    unfinished.write_text(text)
    unfinished.replace(data_dir / _ADDRESS_FILE)


def server_pid(data_dir: Path) -> int:
    """The process id of the directory's server, 0 if there is none."""
    try:
        with (data_dir / LOCK_FILE).open("rb") as lock:
            # Shared, so that two who look at once do not take each other for the server, whose id may be an old one.
            return 0 if file_locks.share(lock.fileno(), waits=False) else int(lock.read(32) or b"0")
    except FileNotFoundError:
        return 0


def address_of(data_dir: Path, pid: int) -> Address | None:
    """Where the directory's server with this process id listens; None until it is ready."""
    try:
        address = Address(**json.loads((data_dir / _ADDRESS_FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return address if address.pid == pid else None
