"""The audit log: who called what, on what, with which result, and from where, as JSON lines.

It holds names only: no password or token, no row, no vector and no filter. A call that is refused before its user is
known is logged with the name that it claims.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import orjson

from milvine import logs
from milvine.config import Settings
from milvine.model.users import Caller

_FILE = "audit.log"
_NAMES = (
    ("collection", ("collection_name", "collectionName", "collection_names")),
    ("partition", ("partition_name", "partitionName", "partition_names", "partitionNames")),
    ("user", ("username", "userName")),
    ("key", ("keyName",)),
    ("role", ("role_name", "roleName")),
    ("alias", ("alias", "aliasName")),
    ("index", ("index_name", "indexName")),
    ("group", ("group_name", "privilegeGroupName", "resource_group")),
)
"""What a call is about, and the names of it in requests and bodies."""
_MOST_CHARACTERS, _MOST_NAMES = 256, 16


@dataclass(slots=True)
class Entry:
    """One call. `user` is verified if `is_verified`, by the API key of the name `key` or by a password."""

    protocol: str
    call: str
    address: str
    user: str = ""
    is_verified: bool = False
    key: str = ""
    database: str = ""
    names: Mapping[str, Any] | None = None

    def know(self, caller: Caller, database: str, names: Mapping[str, Any]) -> None:
        """The caller is verified, and the request is read."""
        self.user, self.is_verified = caller.user or self.user, bool(caller.user)
        self.key = "" if caller.key is None else caller.key.name
        self.database, self.names = database, names


def names_of(value: Callable[[str], object]) -> dict[str, Any]:
    """The objects of a request. `value` gives the value of a key, or None."""
    found: dict[str, Any] = {}
    for noun, keys in _NAMES:
        for key in keys:
            named = value(key)
            if isinstance(named, str) and named:
                found[noun] = _printable(named)
            elif named and not isinstance(named, str | bytes | int | float | Mapping):
                texts = [name for name in named if isinstance(name, str)] if hasattr(named, "__iter__") else []
                if texts:
                    found[noun] = [_printable(name) for name in texts[:_MOST_NAMES]]
    return found


def _printable(text: str) -> str:
    """The beginning of a caller's text, with marks for bytes that are not UTF-8."""
    return text[:_MOST_CHARACTERS].encode("utf-8", "replace").decode()


class _PrivateFile(RotatingFileHandler):
    """Files that only the server's user can read."""

    def _open(self) -> Any:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8")


class AuditLog:
    """Rotates by size. A full disk does not fail calls; it is reported on stderr."""

    def __init__(self, path: Path, most_bytes: int, files: int) -> None:
        self._handler = _PrivateFile(path, maxBytes=most_bytes, backupCount=max(1, files - 1), encoding="utf-8")

    def write(self, entry: Entry, code: int) -> None:
        """`code`: Milvus's, or for a call that gRPC refuses the negative of its status."""
        line = {
            "time": logs.timestamp(time.time()),
            "protocol": entry.protocol,
            "call": _printable(entry.call),
            "user" if entry.is_verified else "claimedUser": _printable(entry.user),
            **({"key": entry.key} if entry.key else {}),
            "address": entry.address,
            "database": _printable(entry.database),
            "on": entry.names or {},
            "code": code,
        }
        text = orjson.dumps(line, default=str).decode()
        self._handler.handle(logging.LogRecord("audit", logging.INFO, "", 0, text, None, None))


def open_audit_log(settings: Settings) -> AuditLog | None:
    """None if it is switched off."""
    if not settings.audit_enabled:
        return None
    path = Path(settings.audit_path or Path(settings.data_dir) / _FILE)
    return AuditLog(path, settings.audit_max_bytes, settings.audit_files)
