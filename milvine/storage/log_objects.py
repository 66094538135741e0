"""The objects of logs in an object store: names, content, and the calls that all logs share.

The log of a collection is a chain of objects. Each was created at its number only because there was none, so a number
has one writer for ever. Object: header of 88 bytes (magic b"MLVNLOG\\0", format version u32, zero u32, collection id
u64, its number u64, the number of the following object u64, the number before which all objects were there when it was
made u64, epoch of the writer u64, id of the writer 16 bytes, body length u64, CRC32C of these 80 bytes u32, zero u32;
little-endian, packed), then records (`wal_format`).

An object without records is a mark: the first object after a checkpoint, or the fence of a server that takes over. A
fence stands where the log ended. Its writer goes on beyond the objects that an earlier one may still have in flight.
"""

from __future__ import annotations

import struct
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from milvine import metrics
from milvine.errors import DataIntegrityError
from milvine.model.records import record
from milvine.model.timestamps import running_seconds
from milvine.storage.files import Buffer, crc32c
from milvine.storage.objects import Objects
from milvine.storage.wal_format import CRC, WalRecord, record_at, record_bytes

PREFIX = "log/"
FIRST_NUMBER = 1 << 32
"""Smaller checkpoints are those of logs in the data directory."""
WINDOW = 4
"""An object is written only when all but so many before it are there."""
SURE_SECONDS = 30.0
"""A writer that was alone so long ago looks whether it still is. Objects are kept for twice this time at least."""
LAST_EPOCH = (1 << 64) - 1
"""Of those who only read."""
_THREADS = 64
_LEAST_BYTES = 64 << 10
_MAGIC = b"MLVNLOG\0"
_VERSION = 1
_HEAD = struct.Struct("<8sIIQQQQQ16sQ")
HEADER_BYTES = _HEAD.size + CRC.size


def recovery_bytes(size: int) -> int:
    """What an object of so many bytes counts as. To fetch a small one takes as long as to fetch one of this size."""
    return max(_LEAST_BYTES, size)


def object_name(collection_id: int, number: int) -> str:
    return f"{PREFIX}{collection_id}/{number:016d}"


def place_of_name(name: str) -> tuple[int, int] | None:
    """Collection id and number; None if this is not the name of an object of a log."""
    _, _, rest = name.partition("/")
    collection_id, _, number = rest.partition("/")
    return (int(collection_id), int(number)) if collection_id.isdigit() and number.isdigit() else None


@record
class Position:
    """Where an object is in its chain: all objects before `durable` were there when it was made."""

    number: int
    following: int
    durable: int


@record
class LogObject:
    """An object read back."""

    position: Position
    epoch: int
    body: memoryview


class LogStore:
    """What all logs of one server write with. `epoch`: a server that takes over has a larger one; 0 if the data
    directory says who writes, so that the last one to start does."""

    def __init__(self, objects: Objects, epoch: int) -> None:
        self.objects = objects
        self.epoch = epoch
        self._writer = uuid.uuid4().bytes
        self.pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="log")

    def packed(self, collection_id: int, position: Position, records: Iterable[Buffer] = ()) -> bytes:
        """The content of an object of this writer."""
        parts = list(records)
        size = sum(memoryview(part).nbytes for part in parts)
        where = (collection_id, position.number, position.following, position.durable)
        head = _HEAD.pack(_MAGIC, _VERSION, 0, *where, self.epoch, self._writer, size)
        return b"".join([head, CRC.pack(crc32c([head]), 0), *parts])

    def create(self, name: str, content: bytes) -> bool:
        """Whether the object is that of the caller: made by this call, or by an earlier one whose answer was lost.
        Raises IoFailed; the object may be there then, or appear later."""
        if self.objects.create(name, content):
            metrics.log_objects.inc()
            metrics.log_object_bytes.inc(len(content))
            return True
        return self.objects.content(name) == content

    def read(self, collection_id: int, number: int) -> LogObject | None:
        """None if there is no such object. Raises DataIntegrityError and IoFailed."""
        name = object_name(collection_id, number)
        content = self.objects.content(name)
        return None if content is None else unpacked(f"{self.objects.uri}/{name}", content, collection_id, number)

    def beyond(self, collection_id: int, number: int) -> dict[int, int]:
        """The objects of a log with larger numbers: their sizes by number."""
        return listed(self.objects, f"{PREFIX}{collection_id}/", object_name(collection_id, number)).get(
            collection_id, {}
        )

    def close(self) -> None:
        """No wait for puts that the store does not answer."""
        self.pool.shutdown(wait=False, cancel_futures=True)


def listed(
    objects: Objects, prefix: str = PREFIX, after: str | None = None, most: int | None = None
) -> dict[int, dict[int, int]]:
    """The objects of logs: sizes by collection and number. `most`: see `Objects.sizes`; then without the collection
    that was reached last."""
    found: dict[int, dict[int, int]] = {}
    sizes = objects.sizes(prefix, after, most)
    for name, size in sizes.items():
        place = place_of_name(name)
        if place is not None:
            found.setdefault(place[0], {})[place[1]] = size
    if most is not None and len(sizes) >= most and (place := place_of_name(next(reversed(sizes)))):
        del found[place[0]]
    return found


def unpacked(shown: str, content: bytes, collection_id: int, number: int) -> LogObject:
    """Raises DataIntegrityError; `shown` names the object there."""
    if len(content) < HEADER_BYTES:
        raise DataIntegrityError(f"{shown} is truncated: {len(content)} bytes")
    magic, version, _, *where, following, durable, epoch, _, size = _HEAD.unpack_from(content)
    if magic == _MAGIC and version != _VERSION:
        raise DataIntegrityError(f"{shown} has format version {version}, this program reads version {_VERSION}")
    crc, _ = CRC.unpack_from(content, _HEAD.size)
    data = memoryview(content)
    if magic != _MAGIC or crc != crc32c([data[: _HEAD.size]]):
        raise DataIntegrityError(f"{shown} has no valid header")
    if where != [collection_id, number]:
        raise DataIntegrityError(f"{shown} belongs to collection {where[0]}, number {where[1]}")
    if len(content) != HEADER_BYTES + size:
        raise DataIntegrityError(f"{shown} has {len(content)} bytes, not {HEADER_BYTES + size}")
    return LogObject(Position(number, following, durable), epoch, data[HEADER_BYTES:])


def records_of(shown: str, found: LogObject) -> Iterator[WalRecord]:
    """The records of an object. Raises DataIntegrityError, since no object is there in part."""
    offset = 0
    while offset < len(found.body):
        record = record_at(found.body, offset)
        if record is None:
            raise DataIntegrityError(f"{shown} is damaged at offset {HEADER_BYTES + offset}")
        yield record
        offset += record_bytes(len(record.body))


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """A time by `running_seconds`, and by the clock of the world."""

    running: float
    world: float

    @classmethod
    def now(cls) -> Moment:
        return cls(running_seconds(), time.time())

    @property
    def seconds_ago(self) -> float:
        """By the clock that says more."""
        now = Moment.now()
        return max(now.running - self.running, abs(now.world - self.world))
