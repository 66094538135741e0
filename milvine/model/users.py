"""Users."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class User:
    """`password_hash` is salted and names its method. The password itself is not stored."""

    name: str
    password_hash: str
    created_ts: int
    description: str = ""
