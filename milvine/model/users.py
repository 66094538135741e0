"""Users, their API keys, and who makes a request."""

from __future__ import annotations

from typing import NamedTuple

from milvine.model.records import record


@record
class User:
    """`password_hash` is salted and names its method. The password itself is not stored."""

    name: str
    password_hash: str
    created_ts: int
    description: str = ""


@record
class ApiKey:
    """What a user may give in place of a password until `expires_ms` (Unix time). The key itself is not stored, only
    `digest`, its SHA-256 as hex. `roles`: those that it is limited to, None if it has all roles of its user."""

    key_id: str
    user: str
    name: str
    digest: str
    roles: frozenset[str] | None
    created_ts: int
    expires_ms: int

    def is_expired(self, now_ms: int) -> bool:
        return now_ms >= self.expires_ms


class Caller(NamedTuple):
    """Who makes a request. `user` has authenticated, and is empty if no authorization is required. `key`: the API key
    that was given for it, None for a password."""

    user: str = ""
    key: ApiKey | None = None


ANYONE = Caller()
