"""Who may ask."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class User:
    """`password_hash` is salted and says how it was made; the password itself is kept nowhere."""

    name: str
    password_hash: str
    created_ts: int
    description: str = ""
