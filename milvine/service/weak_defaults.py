"""Warns of what makes a server that others can reach easy to enter."""

from __future__ import annotations

from milvine.config import is_loopback
from milvine.service.context import ROOT, Engine

_WELL_KNOWN = "Milvus"
_DEFAULT_PASSWORD = "root has the default password, and the server can be reached from other machines: change it"
_NO_AUTHORIZATION = (
    "common.security.authorizationEnabled is off, and the server can be reached from other machines: "
    "everyone who reaches it may do everything"
)


def warnings_at_start(engine: Engine) -> list[str]:
    """Remembers root's stored password if it is the default one, for `current_warnings`."""
    settings = engine.settings
    if not settings.host or is_loopback(settings.host):
        return []
    if not settings.authorization_enabled:
        return [_NO_AUTHORIZATION]
    stored = engine.catalog.snapshot.users[ROOT].password_hash
    if any(engine.passwords.verify(known, stored) for known in {_WELL_KNOWN, settings.default_root_password}):
        engine.passwords.default_hash = stored
    return current_warnings(engine)


def current_warnings(engine: Engine) -> list[str]:
    """What is still wrong; nothing once the password is changed."""
    known = engine.passwords.default_hash
    return [_DEFAULT_PASSWORD] if known and engine.catalog.snapshot.users[ROOT].password_hash == known else []
