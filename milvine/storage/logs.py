"""Where the logs of collections are: in files of the data directory, or in the object store.

The checkpoint of a collection says where its log is: below FIRST_NUMBER in files. So the catalog names the log and its
place in one commit, and a log moves with a flush.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import Protocol

from milvine import metrics
from milvine.config import OBJECT_LOG
from milvine.errors import ServiceInternal, UnexpectedError
from milvine.storage import log_objects
from milvine.storage.files import remove_tree
from milvine.storage.kept_logs import KeptLogs
from milvine.storage.log_objects import FIRST_NUMBER, WINDOW, LogStore, Moment, Position, listed, object_name
from milvine.storage.object_log import ObjectLog
from milvine.storage.object_log_reader import ObjectLogReader
from milvine.storage.objects import Objects
from milvine.storage.segment_files import SegmentPaths
from milvine.storage.wal import Wal, WalReader, remove_files_before
from milvine.storage.wal_format import Log, LogReader

_PREPARED_AHEAD = 32
_TRIES = 5
_LISTED_FOR_EACH = 16
"""A listing of one log takes as long as one of so many objects."""


class Logs(Protocol):
    """The logs of all collections in one place."""

    def create(self, collection_id: int) -> Log:
        """Starts the log of a collection. Its `file_number` is the checkpoint."""

    def readers(self, checkpoints: Mapping[int, int]) -> Iterator[LogReader]:
        """A reader for each collection, in their order, from its checkpoint on. Logs that others may write are taken
        over."""

    def remove_before(self, collection_id: int, checkpoint: int) -> None:
        """Removes what is in sealed segments, now or later. May raise OSError; the next start removes the rest."""

    def remove(self, collection_id: int) -> None:
        """Removes the log of a collection that has left the catalog, now or later."""


class LocalLogs:
    """A directory for each collection. What leaves a log may be kept."""

    def __init__(self, paths: SegmentPaths, keep_seconds: float = 0) -> None:
        self._paths = paths
        self.kept = KeptLogs(paths, keep_seconds)

    def create(self, collection_id: int) -> Log:
        return Wal(self._paths.wal(collection_id), collection_id)

    def readers(self, checkpoints: Mapping[int, int]) -> Iterator[LogReader]:
        for collection_id, number in checkpoints.items():
            yield WalReader(self._paths.wal(collection_id), collection_id, number)

    def remove_before(self, collection_id: int, checkpoint: int) -> None:
        self.kept.take_before(collection_id, checkpoint)
        remove_files_before(self._paths.wal(collection_id), checkpoint)

    def remove(self, collection_id: int) -> None:
        with contextlib.suppress(OSError):  # a full disk, on which a drop must work
            self.kept.take(collection_id)
        remove_tree(self._paths.wal(collection_id))


class ObjectLogs:
    """A prefix for each collection. `sweep` removes what is not needed."""

    def __init__(self, objects: Objects, epoch: int) -> None:
        self._store = LogStore(objects, epoch)
        self._unneeded_since: dict[str, float] = {}

    def create(self, collection_id: int) -> ObjectLog:
        number, alone_at = FIRST_NUMBER, Moment.now()
        for _ in range(_TRIES):
            mark = Position(number, number + 1, number)
            name = object_name(collection_id, number)
            if self._store.create(name, self._store.packed(collection_id, mark)):
                return ObjectLog(self._store, collection_id, number + 1, alone_at=alone_at)
            # The collection had a log here before it had one in files.
            number = max(self._store.beyond(collection_id, 0), default=number) + WINDOW + 1
        raise ServiceInternal(f"another server writes the log of collection {collection_id}")

    def readers(self, checkpoints: Mapping[int, int]) -> Iterator[LogReader]:
        # One listing of all logs is cheap unless they have many objects before their checkpoints.
        sizes = listed(self._store.objects, most=_LISTED_FOR_EACH * len(checkpoints)) if checkpoints else {}
        left = deque(
            ObjectLogReader(self._store, one, number, sizes.pop(one, None)) for one, number in checkpoints.items()
        )
        ahead: deque[tuple[ObjectLogReader, Future[None]]] = deque()
        while left or ahead:
            while left and len(ahead) < _PREPARED_AHEAD:
                reader = left.popleft()
                ahead.append((reader, self._store.pool.submit(reader.prepare)))
            reader, preparing = ahead.popleft()
            preparing.result()
            yield reader

    def remove_before(self, collection_id: int, checkpoint: int) -> None:
        """Left to `sweep`: a fence must stay while an earlier writer may still be sure that it is alone."""

    def remove(self, collection_id: int) -> None:
        """Left to `sweep`."""

    def sweep(
        self, checkpoints: Callable[[], Mapping[int, int]], check: Callable[[], None], wait_seconds: float
    ) -> int:
        """Removes the objects before the checkpoints, and those of unknown collections, that have been so for
        `wait_seconds` and twice SURE_SECONDS. `check` raises if another server has taken over. Returns the number of
        removed objects. Raises IoFailed."""
        found = listed(self._store.objects)
        now = time.monotonic()
        unneeded = set(_unneeded(found, checkpoints()))
        self._unneeded_since = {name: self._unneeded_since.get(name, now) for name in unneeded}
        wait = max(wait_seconds, 2 * log_objects.SURE_SECONDS)
        if not any(now - since >= wait for since in self._unneeded_since.values()):
            return 0
        # After the listing: what a later server has made since then is not in it.
        check()
        still = set(_unneeded(found, checkpoints()))
        due = sorted(name for name, since in self._unneeded_since.items() if now - since >= wait and name in still)
        self._store.objects.remove(due)
        metrics.log_objects_removed.inc(len(due))
        for name in due:
            del self._unneeded_since[name]
        return len(due)

    def close(self) -> None:
        self._store.close()


class ChosenLogs:
    """Logs in both places: they begin in one, and those of the other are moved there."""

    def __init__(self, local: LocalLogs, objects: ObjectLogs | None, where: str) -> None:
        self._local = local
        self._objects = objects
        self.kept = local.kept
        self._begins_in_store = where == OBJECT_LOG

    def is_elsewhere(self, checkpoint: int) -> bool:
        """Whether a log is not where logs begin."""
        return is_in_store(checkpoint) != self._begins_in_store

    def create(self, collection_id: int) -> Log:
        if self._begins_in_store:
            return self._in_store.create(collection_id)
        self._local.remove(collection_id)  # what an earlier log left
        return self._local.create(collection_id)

    @property
    def _in_store(self) -> ObjectLogs:
        if self._objects is None:
            raise UnexpectedError("logs are in an object store: set store.uri")
        return self._objects

    def readers(self, checkpoints: Mapping[int, int]) -> Iterator[LogReader]:
        stored = {one: number for one, number in checkpoints.items() if is_in_store(number)}
        in_store = self._in_store.readers(stored) if stored else iter(())
        local = self._local.readers({one: number for one, number in checkpoints.items() if one not in stored})
        for collection_id in checkpoints:
            yield next(in_store if collection_id in stored else local)

    def remove_before(self, collection_id: int, checkpoint: int) -> None:
        if is_in_store(checkpoint):
            self._local.remove(collection_id)
        else:
            self._local.remove_before(collection_id, checkpoint)

    def remove(self, collection_id: int) -> None:
        self._local.remove(collection_id)

    def sweep(
        self, checkpoints: Callable[[], Mapping[int, int]], check: Callable[[], None], wait_seconds: float
    ) -> int:
        """As `ObjectLogs.sweep`; nothing without an object store."""
        return 0 if self._objects is None else self._objects.sweep(checkpoints, check, wait_seconds)

    def close(self) -> None:
        if self._objects is not None:
            self._objects.close()


def is_in_store(checkpoint: int) -> bool:
    return checkpoint >= FIRST_NUMBER


def _unneeded(found: Mapping[int, Iterable[int]], checkpoints: Mapping[int, int]) -> Iterator[str]:
    """The names of the objects that no recovery will read."""
    for collection_id, numbers in found.items():
        checkpoint = checkpoints.get(collection_id, 0)
        for number in numbers:
            if not (is_in_store(checkpoint) and number >= checkpoint):
                yield object_name(collection_id, number)
