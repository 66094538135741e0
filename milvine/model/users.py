"""Users, and who makes a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class User:
    """`password_hash` is salted and names its method. The password itself is not stored."""

    name: str
    password_hash: str
    created_ts: int
    description: str = ""


class Caller(NamedTuple):
    """Who makes a request. `user` has authenticated, and is empty if no authorization is required."""

    user: str = ""


ANYONE = Caller()
