"""Salted hashes of passwords, slow on purpose, and a cache of verified passwords, so that requests need no hash."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import threading

_COST, _BLOCK, _PARALLEL = 1 << 14, 8, 1
_MEMORY_BYTES = 64 << 20
_SALT_BYTES, _HASH_BYTES = 16, 32
_HASHES_AT_A_TIME = 2


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogateescape")


def _scrypt(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return hashlib.scrypt(
        _bytes(password), salt=salt, n=cost, r=block, p=parallel, maxmem=_MEMORY_BYTES, dklen=_HASH_BYTES
    )


def hash_password(password: str) -> str:
    """The text to store: the method, the salt and the hash."""
    salt = os.urandom(_SALT_BYTES)
    return _stored(salt, _scrypt(password, salt, _COST, _BLOCK, _PARALLEL))


def _stored(salt: bytes, made: bytes) -> str:
    return f"scrypt:{_COST}:{_BLOCK}:{_PARALLEL}:{salt.hex()}:{made.hex()}"


_STORED = re.compile(
    rf"scrypt:{_COST}:{_BLOCK}:{_PARALLEL}:[0-9a-f]{{{2 * _SALT_BYTES}}}:[0-9a-f]{{{2 * _HASH_BYTES}}}"
)


def is_hash(stored: str) -> bool:
    """Whether the text is as `hash_password` makes it, with the same cost."""
    return _STORED.fullmatch(stored) is not None


def _matches(password: str, stored: str) -> bool:
    _, cost, block, parallel, salt, made = stored.split(":")
    found = _scrypt(password, bytes.fromhex(salt), int(cost), int(block), int(parallel))
    return hmac.compare_digest(found, bytes.fromhex(made))


class Passwords:
    """Verifies passwords. A verified password is recognised later by a digest under this process's key.

    Any other password costs one hash, also for an unknown user, so that the time does not reveal which users exist. At
    most _HASHES_AT_A_TIME are computed at a time, since each takes 16 MB.
    """

    def __init__(self) -> None:
        self.default_hash = ""
        """Root's stored hash, if it is that of the default password."""
        self._key = os.urandom(32)
        self._digests: dict[str, bytes] = {}
        self._turns = threading.BoundedSemaphore(_HASHES_AT_A_TIME)
        self._of_no_user = _stored(os.urandom(_SALT_BYTES), os.urandom(_HASH_BYTES))
        """The hash of a password that is not known, without the cost of one."""

    def is_known(self, password: str, stored: str) -> bool:
        """Whether this password was verified before."""
        known = self._digests.get(stored)
        return known is not None and hmac.compare_digest(known, self._digest(password))

    def verify(self, password: str, stored: str | None) -> bool:
        """`stored` is None for an unknown user."""
        if stored is not None and self.is_known(password, stored):
            return True
        with self._turns:
            matches = _matches(password, self._of_no_user if stored is None else stored)
        if stored is None or not matches:
            return False
        self._digests[stored] = self._digest(password)
        return True

    def _digest(self, password: str) -> bytes:
        return hmac.digest(self._key, _bytes(password), "sha256")

    def forget(self, stored: str) -> None:
        """Drops a hash that is no longer valid."""
        self._digests.pop(stored, None)
