"""The log of one collection in an object store: an object for each group commit, a few of them in flight.

An object is created at its number, if there is none. A foreign object there means that another server has taken over:
this one acknowledges nothing more. Only a fence of an earlier epoch is passed, which a server left that was itself
replaced while it took over: what is in flight is sent again behind it. Objects may arrive in any order and are
acknowledged in that of their numbers. A store that does not answer is asked again for ever, with the same object.
Meanwhile writers are refused.

That a create succeeds proves that nobody has taken over only as long as fences are kept. So a writer that was last sure
of it SURE_SECONDS ago looks for objects beyond its own before it acknowledges.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from milvine import metrics
from milvine.crash_points import crash_point
from milvine.errors import IoFailed, MilvineError, ServiceInternal, restored
from milvine.storage import log_objects
from milvine.storage.files import Buffer
from milvine.storage.log_objects import (
    HEADER_BYTES,
    WINDOW,
    LogObject,
    LogStore,
    Moment,
    Position,
    object_name,
    recovery_bytes,
)
from milvine.storage.wal_format import RECORD_HEAD, RECORD_MAGIC, record_bytes, sealed_record

_log = logging.getLogger(__name__)
_OBJECT_BYTES = 16 << 20
"""An object gets no further record beyond this size."""
STALL_SECONDS = 10.0
_BYTES_PER_SECOND = 4 << 20
"""Writers wait for the oldest object for the time above, and the time that its bytes take at this rate."""
_FIRST_PAUSE_SECONDS = 0.05
_PAUSE_SECONDS = 1.0
_Result = TypeVar("_Result")


@dataclass(eq=False, slots=True)
class _Put:
    """An object in flight with the records up to `ticket`. It has another position once it is to be sent again."""

    position: Position
    ticket: int
    parts: Sequence[Buffer]
    size: int
    started: Moment = field(default_factory=Moment.now)
    is_stored: bool = False


class ObjectLog:
    """One writer's log from `number` on; the objects from the checkpoint to there have `earlier_bytes`."""

    def __init__(
        self, store: LogStore, collection_id: int, number: int, *, alone_at: Moment, earlier_bytes: int = 0
    ) -> None:
        """`alone_at`: a moment at which no other server had taken over."""
        self._store = store
        self._collection_id = collection_id
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._closed = threading.Event()
        self._pending: deque[tuple[list[Buffer], int]] = deque()
        self._puts: deque[_Put] = deque()
        self._appended = self._written = self._durable = 0
        self._next = self._durable_number = number
        self._bytes = earlier_bytes
        self._alone_at = alone_at
        self._waiting_since = time.monotonic()
        self._failure: MilvineError | None = None
        self._trouble = ""
        self._given_up = 0
        self._when_late: Callable[[int], None] = lambda _ticket: None
        self.file_number = number - 1

    @property
    def bytes_since_checkpoint(self) -> int:
        """What a recovery would read; a small object counts as a larger one."""
        return self._bytes

    def when_late(self, call: Callable[[int], None]) -> None:
        """`call` gets the tickets that become durable after `sync` has given them up, on a thread of the log."""
        self._when_late = call

    def append(self, record_type: int, ts: int, body: Sequence[Buffer]) -> int:
        """Buffers a record; returns the ticket that `sync` waits for. Raises IoFailed, with nothing written, while the
        store does not answer."""
        length = sum(memoryview(part).nbytes for part in body)
        record = sealed_record(RECORD_HEAD.pack(RECORD_MAGIC, record_type, length, ts, 0), length, body)
        with self._lock:
            self._raise_failure()
            if self._patience() <= 0:
                raise self._stalled("nothing was written")
            self._pending.append((record, record_bytes(length)))
            self._appended += 1
            return self._appended

    def write(self, ticket: int) -> None:
        """Starts to write the record of `ticket` without waiting, unless so many objects are in flight that the next of
        them will take it."""
        with self._lock:
            if self._written < ticket:
                self._start()

    def sync(self, ticket: int) -> None:
        """Returns once the record of `ticket` is in the store, with all before it.

        Raises ServiceInternal if another server has taken over, and IoFailed if the store does not answer: the record
        may be written then, or be written later.
        """
        with self._lock:
            while self._durable < ticket:
                self._raise_failure()
                self._start()
                self._wait(ticket)

    def rotate(self) -> int:
        """Writes a mark, and returns its number, the checkpoint. All appended records must be synced. Raises as
        `sync`."""
        with self._lock:
            self._raise_failure()
            assert not self._pending and self._durable == self._appended
            while len(self._puts) >= WINDOW:  # marks of earlier calls that failed
                self._wait(self._appended)
            put = self._submit([], 0, self._appended)
            while self._durable_number <= put.position.number:
                self._raise_failure()
                self._wait(self._appended)
            self._bytes = recovery_bytes(HEADER_BYTES)
            self.file_number = put.position.number
        crash_point("log.rotated")
        return self.file_number

    def close(self) -> None:
        """Later writes are refused. Objects in flight may still arrive."""
        self._closed.set()
        self._fail(ServiceInternal(f"the log of collection {self._collection_id} is closed"))

    def _start(self) -> None:
        """Sends what is buffered, as far as there is room. The caller holds the lock."""
        while self._pending and len(self._puts) < WINDOW and self._failure is None:
            parts: list[Buffer] = []
            size = 0
            while self._pending and size < _OBJECT_BYTES:
                record, record_size = self._pending.popleft()
                parts += record
                size += record_size
                self._written += 1
            self._bytes += recovery_bytes(HEADER_BYTES + size)
            self._submit(parts, size, self._written)

    def _submit(self, parts: list[Buffer], size: int, ticket: int) -> _Put:
        put = _Put(Position(self._next, self._next + 1, self._durable_number), ticket, parts, size)
        self._next += 1
        if not self._puts:
            self._waiting_since = time.monotonic()
        self._puts.append(put)
        self._store.pool.submit(self._run, put)
        return put

    def _run(self, put: _Put) -> None:
        """On a thread of the store: brings one object there, and acknowledges what is next."""
        late = None
        while late is None:
            position = put.position
            try:
                self._bring(put, position)
            except MilvineError as error:
                self._fail(error)
                return
            except BaseException as error:  # noqa: BLE001 - no writer may wait for a thread that has ended
                _log.exception("the log of collection %d failed", self._collection_id)
                self._fail(ServiceInternal(f"the log of collection {self._collection_id} failed: {error}"))
                return
            late = self._arrived(put, position)
        if late:
            try:
                self._when_late(late)
            except Exception:  # noqa: BLE001 - the next write publishes them
                _log.exception("rows of collection %d are not visible yet", self._collection_id)

    def _arrived(self, put: _Put, position: Position) -> int | None:
        """Acknowledges what is next; returns the ticket of what writers had given up, or 0. None if the object must be
        sent again elsewhere."""
        with self._lock:
            if put.position is not position:
                return None
            put.is_stored = True
            while self._puts and self._puts[0].is_stored:
                first = self._puts.popleft()
                self._durable, self._durable_number = first.ticket, first.position.following
                self._alone_at = max(self._alone_at, first.started)
                self._waiting_since = time.monotonic()
            late = self._durable if self._given_up else 0
            if late >= self._given_up:
                self._given_up = 0
            self._start()
            self._changed.notify_all()
            return late

    def _bring(self, put: _Put, position: Position) -> None:
        """Creates the object at a position, unless a fence of an earlier epoch there is passed."""
        number = position.number
        content = self._store.packed(self._collection_id, position, put.parts)
        put.parts = (memoryview(content)[HEADER_BYTES:],)  # the records alone, since one copy in memory is enough
        name = object_name(self._collection_id, number)
        crash_point("log.object_made")
        if not self._answered(lambda: self._store.create(name, content)):
            self._pass_fence(put, position)
            return
        crash_point("log.object_stored")
        if self._alone_at.seconds_ago > log_objects.SURE_SECONDS and put.position is position:
            looked_at = Moment.now()
            # Beyond what this writer may have in flight. A successor has gone on there.
            beyond = self._answered(lambda: self._store.beyond(self._collection_id, number + WINDOW - 1))
            is_alone = all(size == HEADER_BYTES and self._earlier_fence(one) for one, size in beyond.items())
            with self._lock:
                if not is_alone and put.position is position:
                    raise self._taken_over()
                self._alone_at = max(self._alone_at, looked_at)

    def _earlier_fence(self, number: int) -> LogObject | None:
        """The fence of an earlier epoch at this number. Its server was replaced before it served."""
        found = self._answered(lambda: self._store.read(self._collection_id, number))
        is_earlier = found is not None and not found.body and 0 < found.epoch < self._store.epoch
        return found if is_earlier else None

    def _pass_fence(self, put: _Put, position: Position) -> None:
        """Gives the object, and those after it, positions behind the fence, where those who read the log go on."""
        fence = self._earlier_fence(position.number)
        if fence is None or fence.position.following < position.number + WINDOW:
            raise self._taken_over()
        with self._lock:
            # One before it may meet a fence, too, and then this one is moved with it.
            while put.position is position and self._puts[0] is not put:
                self._raise_failure()
                self._changed.wait()
            if put.position is not position:
                return
            self._next = fence.position.following
            for one in self._puts:
                was_stored, one.is_stored = one.is_stored, False
                one.position = Position(self._next, self._next + 1, self._durable_number)
                self._next += 1
                if was_stored:
                    self._store.pool.submit(self._run, one)
            self._changed.notify_all()
        _log.warning(
            "passed a fence of an earlier server in the log of collection %d, at %d",
            self._collection_id,
            position.number,
        )

    def _answered(self, call: Callable[[], _Result]) -> _Result:
        """The result of a call, which is repeated until the store answers."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return call()
            except IoFailed as error:
                self._trouble = error.message.removesuffix(f": {error.text}")
                metrics.log_retries.inc()
                if self._closed.wait(pause):
                    raise
                pause = min(2 * pause, _PAUSE_SECONDS)

    def _patience(self) -> float:
        """Seconds until the oldest object in flight has taken too long. The caller holds the lock."""
        if not self._puts:
            return STALL_SECONDS
        passed = time.monotonic() - self._waiting_since
        return STALL_SECONDS + self._puts[0].size / _BYTES_PER_SECOND - passed

    def _wait(self, ticket: int) -> None:
        """Waits for a change. Raises IoFailed if the oldest object takes too long."""
        patience = self._patience()
        if patience <= 0:
            self._given_up = max(self._given_up, ticket)
            raise self._stalled("the write may still be made")
        self._changed.wait(patience)

    def _stalled(self, outcome: str) -> IoFailed:
        seconds = time.monotonic() - self._waiting_since
        reason = f": {self._trouble}" if self._trouble else ""
        return IoFailed(f"the log has waited for the object store for {seconds:.0f} s; {outcome}{reason}")

    def _taken_over(self) -> ServiceInternal:
        return ServiceInternal(
            f"another server has taken over the log of collection {self._collection_id}: this one takes no writes"
        )

    def _fail(self, error: MilvineError) -> None:
        with self._lock:
            self._failure = self._failure or error
            self._changed.notify_all()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise restored(type(self._failure), self._failure.message, {})
