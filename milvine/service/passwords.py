"""Salted hashes of passwords, slow on purpose, and a memory of what was verified, so that a request costs none."""

from __future__ import annotations

import hashlib
import hmac
import os

_COST, _BLOCK, _PARALLEL = 1 << 14, 8, 1
_MEMORY_BYTES = 64 << 20
_SALT_BYTES, _HASH_BYTES = 16, 32


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogateescape")


def _scrypt(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return hashlib.scrypt(
        _bytes(password), salt=salt, n=cost, r=block, p=parallel, maxmem=_MEMORY_BYTES, dklen=_HASH_BYTES
    )


def hash_password(password: str) -> str:
    """What to store: how it was made, the salt and the hash."""
    salt = os.urandom(_SALT_BYTES)
    made = _scrypt(password, salt, _COST, _BLOCK, _PARALLEL)
    return f"scrypt:{_COST}:{_BLOCK}:{_PARALLEL}:{salt.hex()}:{made.hex()}"


def _matches(password: str, stored: str) -> bool:
    _, cost, block, parallel, salt, made = stored.split(":")
    found = _scrypt(password, bytes.fromhex(salt), int(cost), int(block), int(parallel))
    return hmac.compare_digest(found, bytes.fromhex(made))


class Passwords:
    """Verifies passwords. Once one was right, it and wrong ones are told apart by a digest under this process's key."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._digests: dict[str, bytes] = {}

    def verify(self, password: str, stored: str) -> bool:
        digest = hmac.digest(self._key, _bytes(password), "sha256")
        known = self._digests.get(stored)
        if known is not None:
            return hmac.compare_digest(known, digest)
        if not _matches(password, stored):
            return False
        self._digests[stored] = digest
        return True

    def forget(self, stored: str) -> None:
        """A hash that is in force no more."""
        self._digests.pop(stored, None)
