"""Reads the log of one collection from the object store, and takes it over from an earlier writer.

A server that takes over creates a fence at the first free number. If it meets objects of a writer that still runs, it
puts fences in its way, at growing distances, so that the writer stops however fast it is. The first fence of the chain
is the end for every earlier writer. What these have in flight lands beyond it, is never acknowledged, and never read,
since the fence names the object that follows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future

from milvine.crash_points import crash_point
from milvine.errors import DataIntegrityError, UnexpectedError
from milvine.storage.log_objects import (
    HEADER_BYTES,
    PREFIX,
    WINDOW,
    LogObject,
    LogStore,
    Moment,
    Position,
    object_name,
    records_of,
    recovery_bytes,
)
from milvine.storage.object_log import ObjectLog
from milvine.storage.wal_format import WalRecord

_DISTANCES = (0, *(1 << i for i in range(15)))
"""Of the fences before a writer that still runs: it is stopped before it has gone twice as far as in one round trip."""
_READ_AHEAD_OBJECTS = 32
_READ_AHEAD_BYTES = 64 << 20
_SMALL_BYTES = 1 << 20
_FEW_OBJECTS = 8
"""A log up to these sizes is read while others are taken over; a larger one at its turn, several objects at a time."""


class ObjectLogReader:
    """Reads the log from `checkpoint` on. `sizes`: the objects that a listing found, by number, or None."""

    def __init__(self, store: LogStore, collection_id: int, checkpoint: int, sizes: dict[int, int] | None) -> None:
        self._store = store
        self._collection_id = collection_id
        self._checkpoint = checkpoint
        self._sizes = sizes or {}
        self._is_listed = sizes is not None
        self._chain: list[int] = []
        self._next = checkpoint
        self._small: dict[int, LogObject] = {}
        self._fenced: dict[int, int] = {}
        """Fences of this reader that stand, with the number that each says follows."""
        self._following = 0
        self._alone_at = Moment.now()
        self._failure: Exception | None = None
        self.shown = f"{store.objects.uri}/{PREFIX}{collection_id}"

    def prepare(self) -> None:
        """Takes the log over, and reads it if it is small. `records` raises what fails here."""
        try:
            self._take_over()
            size = sum(self._sizes[number] for number in self._chain)
            if size <= _SMALL_BYTES and len(self._chain) <= _FEW_OBJECTS:
                self._small = {number: self._read(number) for number in self._chain}
        except Exception as error:  # noqa: BLE001 - the caller of `records` gets it
            self._failure = error

    def records(self) -> Iterator[WalRecord]:
        """All records in order, of a log that was taken over, or as far as it goes. Raises DataIntegrityError naming a
        damaged or missing object, IoFailed, and UnexpectedError if a later server has taken over."""
        if self._failure is not None:
            raise self._failure
        if not self._following:
            self._follow()
            self._check_gap()
        for number, found in self._read_ahead():
            yield from records_of(self._shown(number), found)

    def go_on(self) -> ObjectLog:
        """The log behind the fence."""
        size = sum(recovery_bytes(self._sizes[number]) for number in self._chain)
        return ObjectLog(self._store, self._collection_id, self._following, alone_at=self._alone_at, earlier_bytes=size)

    def _shown(self, number: int) -> str:
        return f"{self._store.objects.uri}/{object_name(self._collection_id, number)}"

    def _find(self, number: int) -> LogObject | None:
        """An object of the chain; adds it to the listing."""
        found = self._store.read(self._collection_id, number)
        if found is not None:
            self._sizes[number] = HEADER_BYTES + len(found.body)
        return found

    def _read(self, number: int) -> LogObject:
        found = self._store.read(self._collection_id, number)
        if found is None:
            raise DataIntegrityError(f"{self._shown(number)} is missing")
        return found

    def _read_ahead(self) -> Iterator[tuple[int, LogObject]]:
        """The objects of the chain in order, some of which are read side by side."""
        ahead: deque[tuple[int, Future[LogObject]]] = deque()
        bytes_ahead = 0
        left = deque(self._chain)
        while left or ahead:
            while left and len(ahead) < _READ_AHEAD_OBJECTS and (not ahead or bytes_ahead < _READ_AHEAD_BYTES):
                number = left.popleft()
                if number in self._small:
                    done: Future[LogObject] = Future()
                    done.set_result(self._small.pop(number))
                else:
                    done = self._store.pool.submit(self._read, number)
                ahead.append((number, done))
                bytes_ahead += self._sizes[number]
            number, reading = ahead.popleft()
            bytes_ahead -= self._sizes[number]
            yield number, reading.result()

    def _follow(self) -> None:
        """Follows the chain by the listing to the first number that this lacks, or behind the fence of this reader."""
        if not self._is_listed:
            self._sizes = self._store.beyond(self._collection_id, self._checkpoint - 1)
            self._is_listed = True
        if self._checkpoint not in self._sizes and self._find(self._checkpoint) is None:
            raise DataIntegrityError(f"{self._shown(self._checkpoint)} is missing")
        while not self._following and (size := self._sizes.get(self._next)) is not None:
            if size > HEADER_BYTES:
                self._chain.append(self._next)
                self._next += 1
            elif self._next in self._fenced:
                self._following = self._fenced[self._next]
            else:
                self._pass_mark(self._read(self._next))

    def _pass_mark(self, found: LogObject) -> None:
        """Raises UnexpectedError for the fence of a later server."""
        if found.epoch > self._store.epoch:
            raise UnexpectedError(
                f"another server has taken over the log of collection {self._collection_id}: its epoch is "
                f"{found.epoch}, that of this server {self._store.epoch}"
            )
        self._next = found.position.following

    def _check_gap(self) -> None:
        """Raises DataIntegrityError if a later object knows that the one at the end of the chain was there."""
        for number in sorted(one for one in self._sizes if one > self._next):
            if self._read(number).position.durable > self._next:
                if self._find(self._next) is None:
                    raise DataIntegrityError(f"{self._shown(self._next)} is missing")
                return  # it arrived while objects were listed

    def _take_over(self) -> None:
        distances: tuple[int, ...] = (0,)
        self._follow()
        while not self._following:
            self._check_gap()
            self._alone_at = Moment.now()
            self._fence(distances)
            crash_point("log.fenced")
            if self._next not in self._fenced:
                self._sizes |= self._store.beyond(self._collection_id, self._next - 1)
            self._follow()
            distances = _DISTANCES

    def _fence(self, distances: tuple[int, ...]) -> None:
        """Tries to create fences at these distances from the end of the chain, side by side."""
        # Also beyond what a take-over that was interrupted has left.
        following = max(self._next + distances[-1], *self._sizes) + 1 + WINDOW
        positions = [Position(self._next + distance, following, self._next) for distance in distances]
        several = len(positions) > 1
        stand = self._store.pool.map(self._creates, positions) if several else map(self._creates, positions)
        for position, stands in zip(positions, stand, strict=True):
            if stands:
                self._fenced[position.number] = following
                self._sizes[position.number] = HEADER_BYTES

    def _creates(self, fence: Position) -> bool:
        name = object_name(self._collection_id, fence.number)
        return self._store.create(name, self._store.packed(self._collection_id, fence))
