"""The node's side: answers the head's calls with a LocalNode, and refuses those of an older head or session."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from milvine.crash_points import crash_point
from milvine.errors import IoFailed, UnexpectedError
from milvine.model.properties import PartKey
from milvine.model.segments import SegmentMeta
from milvine.querynode.budget import Budget
from milvine.querynode.joining import Blocks
from milvine.querynode.load_targets import lacking_bytes
from milvine.querynode.local_node import LocalNode
from milvine.querynode.node import NodeBehind, SegmentNotHeld
from milvine.querynode.opening_progress import OpeningCancelled, OpeningProgress
from milvine.querynode.reduce import condensed
from milvine.querynode.remote.messages import codec, encode_error, encode_result
from milvine.querynode.remote.rpc import Answer, Stream
from milvine.segment.plans import Hits
from milvine.segment.sealed import LoadSpec, part_sizes
from milvine.storage.store import SegmentStore

_log = logging.getLogger(__name__)
_TICK_SECONDS = 0.2
"""An opening tells that it is alive at least as often."""
READS = ("search", "query", "count", "aggregate")
"""Methods of a QueryNode that read segments by a plan."""
SegmentKey = tuple[int, int]
"""Collection and segment."""


class _Session:
    """All that one registration with one head has made: segments, their memory, and the deletes that arrived."""

    def __init__(self, store: SegmentStore, threads: int, limit_bytes: int) -> None:
        self.budget = Budget(limit_bytes)
        self.node = LocalNode(store, threads, Blocks(self.budget))
        self._reserved: dict[SegmentKey, int] = {}
        self._lock = threading.Lock()
        self._feed_lock = threading.Lock()
        self._deletes_changed = threading.Condition()
        self._delete_numbers: dict[int, int] = {}
        """The number of the last batch of deletes, by collection."""
        self._told = ""

    # Openings

    def reserve(self, meta: SegmentMeta, spec: LoadSpec) -> None:
        """Raises MemoryLimitExceeded."""
        held = self.budget.usage(meta.collection_id).get(meta.segment_id, {})
        needed = lacking_bytes(part_sizes(meta, spec), held)
        self.budget.reserve(meta.collection_id, needed, dict)
        with self._lock:
            before = self._reserved.pop((meta.collection_id, meta.segment_id), 0)
            self._reserved[meta.collection_id, meta.segment_id] = needed
        self.budget.give_back(meta.collection_id, before)

    def _taken(self, collection_id: int, segment_id: int) -> int:
        with self._lock:
            return self._reserved.pop((collection_id, segment_id), 0)

    def give_back(self, collection_id: int, segment_id: int) -> None:
        self.budget.give_back(collection_id, self._taken(collection_id, segment_id))

    def tell(self, error: IoFailed) -> None:
        """Logs it once, since the head tries again twice a second."""
        if self._told != str(error):
            self._told = str(error)
            _log.warning("a segment is not opened: %s", error)

    def settle(self, collection_id: int, segment_id: int) -> Mapping[PartKey, int]:
        def measure() -> Mapping[PartKey, int]:
            return self.node.memory_bytes(collection_id, segment_id)

        self.budget.settle(collection_id, segment_id, self._taken(collection_id, segment_id), measure)
        return measure()

    # Deletes

    def take_deletes(self, items: Sequence[tuple[Any, ...]]) -> dict[SegmentKey, Mapping[PartKey, int]]:
        """Runs the items of a feed in order; returns the memory of the segments whose marks have grown."""
        with self._feed_lock:  # the head sends again what it had no answer to
            return self._take_deletes(items)

    def _take_deletes(self, items: Sequence[tuple[Any, ...]]) -> dict[SegmentKey, Mapping[PartKey, int]]:
        grown: dict[SegmentKey, Mapping[PartKey, int]] = {}
        for kind, collection_id, *rest in items:
            if kind == "forget":
                self._delete_numbers.pop(collection_id, None)
                continue
            number = rest[0]
            known = self._delete_numbers.get(collection_id)
            if kind == "batch":
                if known is None or number <= known:
                    continue  # sent again
                if number > known + 1:
                    raise UnexpectedError(f"deletes {known + 1} to {number - 1} of {collection_id} are missing")
                for segment_id in self.node.apply_deletes(collection_id, rest[1]):
                    grown[collection_id, segment_id] = {}
            with self._deletes_changed:
                self._delete_numbers[collection_id] = number
                self._deletes_changed.notify_all()
        for key in grown:
            memory = self.node.memory_bytes(*key)
            self.budget.measure_again(*key, lambda memory=memory: memory)  # type: ignore[misc]
            grown[key] = memory
        return grown

    def wait_for_deletes(self, collection_id: int, number: int, seconds: float) -> None:
        """Returns once the batch has arrived; raises NodeBehind if it does not in time."""
        if self._delete_numbers.get(collection_id, -1) >= number:
            return
        with self._deletes_changed:
            there = self._deletes_changed.wait_for(
                lambda: self._delete_numbers.get(collection_id, -1) >= number, seconds
            )
        if not there:
            raise NodeBehind(f"deletes up to {number} of {collection_id} have not arrived")


class NodeServer:
    """`answers` and `streams` are served by an RpcServer."""

    def __init__(self, threads: int, limit_bytes: int) -> None:
        self._threads = threads
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._epoch = 0
        self._number = 0
        self._session: _Session | None = None

    def begin(self, epoch: int, number: int, store: SegmentStore) -> None:
        """Begins a session without segments, in place of the one before. Raises UnexpectedError for an older head."""
        with self._lock:
            self._refuse_older(epoch)
            if (epoch, number) != (self._epoch, self._number) or self._session is None:
                self._epoch, self._number = epoch, number
                self._session = _Session(store, self._threads, self.limit_bytes)

    @property
    def session(self) -> tuple[int, int]:
        """The epoch of the head, and the number of the registration; 0 without one."""
        return self._epoch, self._number

    def report(self) -> tuple[int, int, dict[int, list[int]]]:
        """Bytes of memory that segments hold, mapped bytes, and the serving segments by collection."""
        session = self._session
        if session is None:
            return 0, 0, {}
        return session.budget.held_bytes(), session.node.mapped_bytes(), session.node.serving_ids()

    def _refuse_older(self, epoch: int) -> None:
        if epoch < self._epoch:
            raise UnexpectedError(f"the head of epoch {epoch} was replaced by that of {self._epoch}")

    def _admitted(self, request: bytes) -> tuple[_Session, tuple[Any, ...]]:
        epoch, number, *arguments = codec.decode(request)
        self._refuse_older(epoch)
        session = self._session
        if session is None or (epoch, number) != (self._epoch, self._number):
            raise SegmentNotHeld(f"session {number} of epoch {epoch} has ended")
        return session, tuple(arguments)

    @property
    def answers(self) -> dict[str, Answer]:
        calls: dict[str, Callable[..., Any]] = {
            "catch_up": lambda session, meta, deltas, deletes: session.node.catch_up(meta, deltas, deletes),
            "serve": self._serve,
            "discard": self._discard,
            "set_schema": lambda session, *given: session.node.set_schema(*given),
            "release": self._release,
            "deletes": lambda session, items: session.take_deletes(items),
            "term_statistics": self._term_statistics,
            **{name: self._read(name) for name in READS},
        }
        return {name: self._answering(call) for name, call in calls.items()}

    def _answering(self, call: Callable[..., Any]) -> Answer:
        def answer(request: bytes) -> bytes:
            try:
                session, arguments = self._admitted(request)
                return encode_result(call(session, *arguments))
            except Exception as error:  # noqa: BLE001 - it is the answer
                return encode_error(error)

        return answer

    @property
    def streams(self) -> dict[str, Stream]:
        return {"open": self._open}

    # Segments

    def _open(self, request: bytes, on_end: Callable[[Callable[[], None]], Any]) -> Iterator[bytes]:
        """The numbers of bytes read so far, at least one every tick; None at the end, or the error."""
        opening = _Opening()
        on_end(opening.progress.cancel)
        try:
            session, (meta, spec, in_parallel) = self._admitted(request)
            session.reserve(meta, spec)
        except Exception as error:  # noqa: BLE001 - it is the answer
            yield encode_error(error)
            return
        threading.Thread(
            target=opening.run, args=(session, meta, spec, in_parallel), name="opening", daemon=True
        ).start()
        told = 0
        while not opening.has_ended.wait(_TICK_SECONDS):
            read = opening.progress.bytes_read
            yield encode_result(read - told)
            told = read
        if more := opening.progress.bytes_read - told:
            yield encode_result(more)
        yield encode_result(None) if opening.error is None else encode_error(opening.error)

    def _serve(self, session: _Session, collection_id: int, segment_id: int, schema: Any) -> Mapping[PartKey, int]:
        crash_point("node.serving")
        try:
            session.node.serve(collection_id, segment_id, schema)
        except KeyError:
            raise SegmentNotHeld(f"segment {segment_id} is not open") from None
        return session.settle(collection_id, segment_id)

    def _discard(self, session: _Session, collection_id: int, segment_id: int) -> None:
        session.node.discard(collection_id, segment_id)
        session.give_back(collection_id, segment_id)

    def _release(self, session: _Session, collection_id: int, segment_id: int, patience_seconds: float) -> None:
        session.node.release_segment(collection_id, segment_id, patience_seconds)
        session.budget.free(collection_id, segment_id)

    # Reads: the number of the last batch of deletes to be seen, how long to wait for it, and for the answer

    def _read(self, method: str) -> Callable[..., Any]:
        def read(
            session: _Session,
            number: int,
            patience: float,
            seconds: float,
            collection_id: int,
            ids: Sequence[int],
            *more: Any,
        ) -> Any:
            deadline = time.monotonic() + seconds
            session.wait_for_deletes(collection_id, number, patience)
            left = max(0.0, deadline - time.monotonic())
            found = getattr(session.node, method)(collection_id, ids, *more, seconds=left)
            return condensed(found) if isinstance(found, Hits) else found

        return read

    def _term_statistics(
        self,
        session: _Session,
        _number: int,
        _patience: float,
        seconds: float,
        collection_id: int,
        ids: Sequence[int],
        *more: Any,
    ) -> Any:
        held = session.node.held(collection_id)
        for segment_id in ids:
            if segment_id not in held:
                raise SegmentNotHeld(segment_id)
        return session.node.term_statistics(collection_id, ids, *more, seconds=seconds)


class _Opening:
    """The opening of a segment, by a thread of its own."""

    def __init__(self) -> None:
        self.progress = OpeningProgress()
        self.has_ended = threading.Event()
        self.error: Exception | None = None

    def run(self, session: _Session, meta: SegmentMeta, spec: LoadSpec, in_parallel: bool) -> None:
        try:
            session.node.load_segment(meta, spec, self.progress, in_parallel)
            if self.progress.is_cancelled:
                session.node.discard(meta.collection_id, meta.segment_id)
                raise OpeningCancelled
        except Exception as error:  # noqa: BLE001 - a thread would swallow it
            session.give_back(meta.collection_id, meta.segment_id)
            if isinstance(error, IoFailed):
                session.tell(error)
            self.error = error
        finally:
            self.has_ended.set()
