"""The records of a write-ahead log, in files of the data directory and in objects alike, and what a log offers.

Record: header of 40 bytes (magic b"REC\\0", type u32, body length u64, ts u64, offset in this file known to be synced
when the record was written u64 (0 in an object), CRC32C of the header before this field and of the body u32, zero u32;
little-endian, packed), body, zeros up to 8 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from milvine.model.records import record
from milvine.storage.files import Buffer, crc32c

RECORD_MAGIC = b"REC\0"
RECORD_HEAD = struct.Struct("<4sIQQQ")
CRC = struct.Struct("<II")
_HEADER_BYTES = RECORD_HEAD.size + CRC.size


@record
class WalRecord:
    """A record read back; `body` is a view into the file's bytes."""

    record_type: int
    ts: int
    body: memoryview


class Log(Protocol):
    """The log of one collection, by one writer. Appends are buffered under the caller's lock. `sync` makes them durable
    for all waiting threads; `write` starts that before a thread waits."""

    @property
    def file_number(self) -> int:
        """The number of the file that the last `rotate` began, at first that of the log's first file."""

    @property
    def bytes_since_checkpoint(self) -> int:
        """Bytes that a recovery would replay, including buffered ones."""

    def append(self, record_type: int, ts: int, body: Sequence[Buffer]) -> int:
        """Buffers a record; returns the ticket that `sync` waits for. The caller's lock gives the order."""

    def write(self, ticket: int) -> None:
        """Starts to write the record of `ticket` without waiting, so that the caller may work in the meantime."""

    def sync(self, ticket: int) -> None:
        """Returns once the record of `ticket` is durable."""

    def when_late(self, call: Callable[[int], None]) -> None:
        """`call` gets tickets that become durable after `sync` has given them up, if that can be."""

    def rotate(self) -> int:
        """Continues in a new file and returns its number, the checkpoint. All appended records must be synced."""

    def close(self) -> None:
        """Later writes are refused."""


class LogReader(Protocol):
    """Reads the log of one collection from its checkpoint on."""

    def records(self) -> Iterator[WalRecord]:
        """All durable records in order. Raises DataIntegrityError naming the file for damage before the tail."""

    def go_on(self) -> Log:
        """The log behind the records, which have been read, for the one writer."""


def record_bytes(body_bytes: int) -> int:
    """The size of a record with a body of so many bytes."""
    return _HEADER_BYTES + body_bytes + -body_bytes % 8


def sealed_record(head: bytes, length: int, body: Sequence[Buffer]) -> list[Buffer]:
    """A record of a packed RECORD_HEAD and a body of `length` bytes."""
    return [head, CRC.pack(crc32c([head, *body]), 0), *body, bytes(-length % 8)]


def record_at(data: memoryview, offset: int) -> WalRecord | None:
    """The record that begins there; None if none does, or if it is not intact."""
    body_start = offset + _HEADER_BYTES
    if body_start > len(data):
        return None
    magic, record_type, length, ts, _ = RECORD_HEAD.unpack_from(data, offset)
    if magic != RECORD_MAGIC or body_start + length > len(data):
        return None
    crc, _ = CRC.unpack_from(data, offset + RECORD_HEAD.size)
    body = data[body_start : body_start + length]
    if crc32c([data[offset : offset + RECORD_HEAD.size], body]) != crc:
        return None
    return WalRecord(record_type, ts, body)
