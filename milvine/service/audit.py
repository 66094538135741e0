"""The audit log: who called what, on what, with which result, and from where, as JSON lines.

It holds names only: no password or token, no row, no vector and no filter. A call that is refused before its user is
known is logged with the name that it claims.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from milvine import logs
from milvine.config import Settings
from milvine.model.users import Caller
from milvine.service.line_files import LineFile, write_line

_FILE = "audit.log"
NAMES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("collection", ("collection_name", "collectionName", "collection_names", "oldName")),
    ("renamed", ("newName", "newCollectionName")),
    ("partition", ("partition_name", "partitionName", "partition_names", "partitionNames")),
    ("user", ("username", "userName", "user.name")),
    ("key", ("keyName",)),
    ("role", ("role_name", "roleName", "role.name", "entity.name", "entity.role.name")),
    ("privilege", ("privilege", "grantor.privilege.name", "entity.grantor.privilege.name")),
    ("object", ("objectName", "entity.object_name")),
    ("alias", ("alias", "aliasName")),
    ("index", ("index_name", "indexName")),
    ("group", ("group_name", "privilegeGroupName", "resource_group")),
    ("resource", ("name",)),
    ("file", ("path",)),
)
"""What a call is about, and the names of it in requests, also inside other messages, and in bodies."""
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

    def verify(self, caller: Caller) -> None:
        self.user, self.is_verified = caller.user or self.user, bool(caller.user)
        self.key = "" if caller.key is None else caller.key.name


def names_of(values: Iterable[tuple[str, object]]) -> dict[str, Any]:
    """The objects of a request, from values of the keys in NAMES and what each names."""
    found: dict[str, Any] = {}
    for noun, named in values:
        if isinstance(named, str):
            if named:
                found[noun] = _printable(named)
        elif isinstance(named, Sequence) and not isinstance(named, bytes):
            texts = [_printable(name) for name in named[:_MOST_NAMES] if isinstance(name, str)]
            if texts:
                found[noun] = texts
    return found


def _printable(text: str) -> str:
    """The beginning of a caller's text, with marks for bytes that are not UTF-8."""
    text = text[:_MOST_CHARACTERS]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class AuditLog:
    """Only the server's user can read its files. A full disk does not fail calls."""

    def __init__(self, path: Path, most_bytes: int, files: int) -> None:
        self._file = LineFile(path, most_bytes, files, permissions=0o600)

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
        write_line(self._file, orjson.dumps(line, default=str).decode())


def open_audit_log(settings: Settings) -> AuditLog | None:
    """None if it is switched off."""
    if not settings.audit_enabled:
        return None
    path = Path(settings.audit_path or Path(settings.data_dir) / _FILE)
    return AuditLog(path, settings.audit_max_bytes, settings.audit_files)
