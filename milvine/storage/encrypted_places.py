"""A place whose files are encrypted before they leave this process. The only home of `cryptography`.

`encryption.json` has the salt from which the place's key is made with the user's secret, by scrypt, and a token that
tells a wrong secret. A file is a salt of its own, from which its key is made by HKDF, and then pieces of 1 MB, each
sealed by AES-256-GCM. The nonce of a piece is its number, and whether it is the last; what is sealed with it is the
file's name. So pieces that are changed, exchanged, repeated or missing are found, and so is a file under another name.
Names and sizes stay visible, and a name has the checksum of its file.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from milvine.errors import DataIntegrityError, ParameterInvalid, UnexpectedError
from milvine.storage.backup_places import BackupPlace, copy_into, write_synced

RULES_FILE = "encryption.json"
_MAGIC = b"milvine\x01"
_SALT_BYTES = 16
_HEAD_BYTES = len(_MAGIC) + _SALT_BYTES
_PIECE_BYTES = 1 << 20
_TAG_BYTES = 16
_SCRYPT = {"n": 1 << 15, "r": 8, "p": 1}
_LEAST_SECRET_BYTES = 8
_VERSION = 1


def encrypted_place(place: BackupPlace, secret: bytes) -> BackupPlace:
    """The place, encrypted with a secret or, with an empty one, as it is. Raises ParameterInvalid for a secret that is
    not the place's, and for a place that has files which are not as asked for."""
    is_encrypted = place.has(RULES_FILE)
    if not secret:
        if is_encrypted:
            raise ParameterInvalid("the place is encrypted: give its secret by --key-file or MILVINE_BACKUP_KEY")
        return place
    if len(secret) < _LEAST_SECRET_BYTES:
        raise ParameterInvalid(f"the secret of a backup has {_LEAST_SECRET_BYTES} bytes at least")
    if is_encrypted:
        return EncryptedPlace(place, _known_key(place, secret))
    if place.sizes("backups/"):
        raise ParameterInvalid("the place has backups that are not encrypted; take another one")
    return EncryptedPlace(place, _new_key(place, secret))


def _library() -> Any:
    try:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.kdf import hkdf, scrypt
    except ImportError as error:
        raise UnexpectedError("encryption needs cryptography: pip install 'milvine[encryption]'") from error
    return hashes, AESGCM, hkdf, scrypt


def _place_key(secret: bytes, salt: bytes, **costs: int) -> bytes:
    *_, scrypt = _library()
    key: bytes = scrypt.Scrypt(salt=salt, length=32, **costs).derive(secret)
    return key


def _new_key(place: BackupPlace, secret: bytes) -> bytes:
    salt = os.urandom(_SALT_BYTES)
    key = _place_key(secret, salt, **_SCRYPT)
    rules = {
        "format": _VERSION,
        "cipher": "AES-256-GCM",
        "scrypt": {**_SCRYPT, "salt": base64.b64encode(salt).decode()},
        "token": base64.b64encode(_derived(key, salt, "token")).decode(),
    }
    with place.writing(RULES_FILE) as file:
        file.write(orjson.dumps(rules))
    return key


def _known_key(place: BackupPlace, secret: bytes) -> bytes:
    try:
        rules = orjson.loads(place.content(RULES_FILE))
        if rules["format"] != _VERSION:
            raise DataIntegrityError(f"{RULES_FILE} has format {rules['format']}, this program reads {_VERSION}")
        salt = base64.b64decode(rules["scrypt"]["salt"])
        costs = {name: int(rules["scrypt"][name]) for name in ("n", "r", "p")}
        token = base64.b64decode(rules["token"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataIntegrityError(f"{RULES_FILE} is damaged") from error
    key = _place_key(secret, salt, **costs)
    if _derived(key, salt, "token") != token:
        raise ParameterInvalid("the secret is not the one of this place")
    return key


def _derived(key: bytes, salt: bytes, use: str) -> bytes:
    hashes, _, hkdf, _ = _library()
    found: bytes = hkdf.HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=use.encode()).derive(key)
    return found


class EncryptedPlace:
    """See BackupPlace."""

    def __init__(self, place: BackupPlace, key: bytes) -> None:
        self._place = place
        self._key = key

    def is_in(self, directory: Path) -> bool:
        return self._place.is_in(directory)

    def sizes(self, prefix: str) -> dict[str, int]:
        """Sizes as they were before the files were encrypted."""
        return {name: _plain_bytes(size) for name, size in self._place.sizes(prefix).items()}

    def has(self, name: str) -> bool:
        return self._place.has(name)

    def never_finished(self, prefix: str) -> list[str]:
        return self._place.never_finished(prefix)

    def put(self, name: str, path: Path) -> None:
        with self.writing(name) as written:
            copy_into(path, written)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        with self._place.writing(name) as written:
            sealing = _Sealing(written, self._cipher, name)
            yield sealing  # type: ignore[misc]  # a file as far as it is used
            sealing.end()

    @contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        with self._place.reading(name) as read:
            yield io.BufferedReader(_Opening(read, self._cipher, name), _PIECE_BYTES)

    def content(self, name: str) -> bytes:
        with self.reading(name) as file:
            return file.read()

    def fetch(self, name: str, target: Path) -> None:
        with self.reading(name) as read:
            write_synced(read, target)

    def remove(self, names: Iterable[str]) -> None:
        self._place.remove(names)

    def _cipher(self, salt: bytes) -> Any:
        _, aes, *_ = _library()
        return aes(_derived(self._key, salt, "file"))


def _plain_bytes(size: int) -> int:
    """The bytes of a file, of the bytes that are stored."""
    sealed = max(0, size - _HEAD_BYTES)
    return max(0, sealed - _TAG_BYTES * max(1, -(-sealed // (_PIECE_BYTES + _TAG_BYTES))))


def _nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])


class _Sealing(io.RawIOBase):
    """Writes a file in pieces; `end` writes the last one."""

    def __init__(self, file: BinaryIO, cipher: Any, name: str) -> None:
        salt = os.urandom(_SALT_BYTES)
        self._file = file
        self._cipher = cipher(salt)
        self._name = name.encode()
        self._waiting = bytearray()
        self._number = 0
        file.write(_MAGIC + salt)

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        self._waiting += view
        while len(self._waiting) > _PIECE_BYTES:  # the last piece waits for the end
            self._seal(bytes(self._waiting[:_PIECE_BYTES]), is_last=False)
            del self._waiting[:_PIECE_BYTES]
        return view.nbytes

    def end(self) -> None:
        self._seal(bytes(self._waiting), is_last=True)

    def _seal(self, piece: bytes, *, is_last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._number, is_last), piece, self._name))
        self._number += 1


class _Opening(io.RawIOBase):
    """Reads a file piece by piece. Raises DataIntegrityError for one that is not as it was written."""

    def __init__(self, file: BinaryIO, cipher: Any, name: str) -> None:
        self._file = file
        self._name = name
        head = file.read(_HEAD_BYTES)
        if len(head) < _HEAD_BYTES or not head.startswith(_MAGIC):
            raise DataIntegrityError(f"{name} is damaged: it is not an encrypted file")
        self._cipher = cipher(head[len(_MAGIC) :])
        self._number = 0
        self._next: bytes | None = self._read_piece()
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        if not self._left and self._next is not None:
            self._left = memoryview(self._opened())
        view = memoryview(target).cast("B")
        size = min(len(view), len(self._left))
        view[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

    def _read_piece(self) -> bytes:
        return self._file.read(_PIECE_BYTES + _TAG_BYTES)

    def _opened(self) -> bytes:
        from cryptography.exceptions import InvalidTag

        piece, following = self._next, self._read_piece()
        self._next = following or None
        try:
            opened: bytes = self._cipher.decrypt(_nonce(self._number, not following), piece, self._name.encode())
        except (InvalidTag, ValueError) as error:
            raise DataIntegrityError(f"{self._name} is damaged") from error
        self._number += 1
        return opened
