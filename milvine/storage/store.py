"""Where the files of sealed segments live: in the data directory, or in an object store with the directory as a cache.

A file is always written locally first, and opened locally by the same code. With an object store it is uploaded before
the catalog names it. After that the local file is a copy: it may be evicted, and is fetched when it is opened again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from functools import partial
from pathlib import Path
from typing import TypeVar

from milvine import metrics
from milvine.crash_points import crash_point
from milvine.errors import DataIntegrityError, IoFailed, write_failure
from milvine.model.segments import DeleteBatch
from milvine.storage.claims import OWNER, Claim, refuse_alone, was_claimed
from milvine.storage.directories import make_directory, sync_directory
from milvine.storage.files import link_or_copy, mapped_files, remove_tree, verify_sealed, walk_files
from milvine.storage.lending import Lending, Lent
from milvine.storage.objects import ObjectMissing, Objects, Place
from milvine.storage.segment_files import SegmentPaths, open_delta

_log = logging.getLogger(__name__)
_PARTS = "parts"
_SEGMENTS = "segments"
_UPLOADS_AT_A_TIME = 8
_FETCH_LOCKS = 64
_EVICTION_PAUSE_SECONDS = 1.0
FIRST_EVICTION_SECONDS = 60.0
"""Within this time what is loaded is open again, so its copies stay."""
_Result = TypeVar("_Result")
Named = Callable[[], Mapping[Path, int]]
"""Returns the files that the catalog names now, with their sizes."""


def _no_step() -> None:
    pass


class SegmentStore:
    """Files in the data directory alone: each is where it was written, so nothing here costs anything."""

    is_local_only = True

    def __init__(self, paths: SegmentPaths) -> None:
        self.paths = paths

    def read(
        self, files: Sequence[Path], open_files: Callable[[], _Result], on_step: Callable[[], None] = _no_step
    ) -> _Result:
        """The result of `open_files`, which opens `files`. `on_step` may run while they are fetched, and ends that by
        raising. Raises IoFailed if a file is not local and the store cannot be reached."""
        return open_files()

    @contextlib.contextmanager
    def kept(self, files: Sequence[Path]) -> Iterator[None]:
        """The files are local, whole, and not evicted in the block; for work in child processes."""
        yield

    @contextlib.contextmanager
    def storing(self, made: Sequence[Path]) -> Iterator[None]:
        """Stores new files and directories of files durably. The block commits them to the catalog."""
        yield

    @contextlib.contextmanager
    def cloning(self, clones: Mapping[Path, Path], on_step: Callable[[], None] = _no_step) -> Iterator[None]:
        """Gives sealed files further names, durably: targets by their sources, in directories that exist. The block
        commits the targets to the catalog, and the sources stay named meanwhile."""
        self._link(clones, on_step)
        yield

    def _link(self, clones: Mapping[Path, Path], on_step: Callable[[], None]) -> None:
        for source, target in clones.items():
            try:
                link_or_copy(source, target)
            except FileNotFoundError:
                if self.is_local(source):
                    raise DataIntegrityError(f"{source} is missing") from None
            on_step()
        for directory in {target.parent for target in clones.values()}:
            sync_directory(directory)

    def is_local(self, path: Path) -> bool:
        """Whether a file that the catalog names must be in the data directory."""
        return True

    def repaired(self, path: Path, on_step: Callable[[], None] = _no_step) -> bool:
        """Whether a damaged or missing file was a copy, which is whole now."""
        return False


class CachedStore(SegmentStore):
    """Files in an object store; the data directory holds copies, the least recently used of which are evicted."""

    is_local_only = False

    def __init__(
        self, paths: SegmentPaths, objects: Objects, cache_bytes: int, catalog: str = "", epoch: int = 0
    ) -> None:
        """`catalog`, `epoch`: see Claim."""
        super().__init__(paths)
        self.objects = objects
        self._cache_bytes = cache_bytes
        self._parts = paths.root / _PARTS
        remove_tree(self._parts)
        make_directory(self._parts)
        self._uploads = ThreadPoolExecutor(_UPLOADS_AT_A_TIME, thread_name_prefix="upload")
        self._fetching = tuple(threading.Lock() for _ in range(_FETCH_LOCKS))
        self._lock = threading.Lock()
        """Guards the tables below. It is held while objects are removed, so that no upload of one begins meanwhile."""
        self._in_flight: Counter[Path] = Counter()
        self._kept: Counter[Path] = Counter()
        self._stored: set[Path] = set()
        """Files with an object that the catalog names."""
        self._used_at: dict[Path, float] = {}
        self._unnamed_since: dict[str, float] = {}
        self._local_bytes = 0
        self._claim = Claim(paths.root, objects, catalog, epoch)
        self._lending = Lending(paths.root, objects)
        self.is_named: Callable[[Path], bool] = lambda _path: True
        self.is_held: Callable[[int, int], bool] = lambda _collection_id, _segment_id: False
        """Whether another process may still read a segment: its objects wait."""
        self.on_full: Callable[[], None] = lambda: None
        """Called when the copies have become larger than the cache."""

    def name(self, path: Path) -> str:
        """The name of a file's object."""
        return path.relative_to(self.paths.root).as_posix()

    def claim(self) -> None:
        """Makes sure that the URI belongs to this data directory; see `Claim.make`."""
        self._claim.make()

    def check_claim(self) -> None:
        """Raises IoFailed if another server has claimed the URI since; see `Claim.check`."""
        self._claim.check()

    # Reading

    def read(
        self, files: Sequence[Path], open_files: Callable[[], _Result], on_step: Callable[[], None] = _no_step
    ) -> _Result:
        for path in files:
            self._bring(path, on_step)
        try:
            return open_files()
        except DataIntegrityError:
            repaired = [self.repaired(path, on_step) for path in files]
            if not any(repaired):
                raise
        return open_files()

    def _bring(self, path: Path, on_step: Callable[[], None]) -> None:
        self._used_at[path] = time.monotonic()
        if path.exists():
            metrics.store_hits.inc()
            return
        with self._fetching[hash(path) % _FETCH_LOCKS]:
            if not path.exists():
                metrics.store_misses.inc()
                self._fetch(path, on_step)

    def repaired(self, path: Path, on_step: Callable[[], None] = _no_step) -> bool:
        if not self.is_named(path):
            return False
        with self._fetching[hash(path) % _FETCH_LOCKS]:
            try:
                verify_sealed(path)
            except DataIntegrityError as error:
                self._fetch(path, on_step)
                _log.warning("fetched again: %s", error.message)
                return True
        return False

    def _fetch(self, path: Path, on_step: Callable[[], None]) -> None:
        """Downloads to a part file, verifies it and renames it."""
        name = self.name(path)
        part = self._parts / name.replace("/", "-")
        try:
            size = self._download(path, part, on_step)
            crash_point("store.fetched")
            if not self.is_named(path):  # it was removed meanwhile, and its directory perhaps, too
                raise DataIntegrityError(f"{path} is missing")
            make_directory(path.parent)
            part.rename(path)
        except ObjectMissing:
            if self.objects.content(OWNER) is None:
                raise IoFailed(f"{self.objects.uri} is not the store of {self.paths.root} any more") from None
            raise self._lost(path, "missing") from None
        except OSError as error:
            raise write_failure(path, error) from error
        finally:
            part.unlink(missing_ok=True)
        with self._lock:
            self._stored.add(path)
        self._has_grown(size)

    def _download(self, path: Path, part: Path, on_step: Callable[[], None]) -> int:
        """Writes `part`, the whole content of `path`."""
        size = self.objects.download(self.name(path), part, on_step)
        if not _is_whole(part):
            size = self.objects.download(self.name(path), part, on_step)  # the damage may be of the transfer alone
            if not _is_whole(part):
                raise self._lost(path, "damaged")
        return size

    def _lost(self, path: Path, what: str) -> DataIntegrityError:
        return DataIntegrityError(f"{self.objects.uri}/{self.name(path)} is {what}, and {path} is missing or damaged")

    @contextlib.contextmanager
    def kept(self, files: Sequence[Path]) -> Iterator[None]:
        with self._lock:
            self._kept.update(files)
        try:
            for path in files:
                self.read([path], partial(verify_sealed, path))
            yield
        finally:
            with self._lock:
                self._kept -= Counter(files)

    def is_local(self, path: Path) -> bool:
        return path.exists()

    # Writing

    @contextlib.contextmanager
    def storing(self, made: Sequence[Path]) -> Iterator[None]:
        files = [file for path in made for file in (walk_files(path) if path.is_dir() else [path])]
        size = sum(file.stat().st_size for file in files)
        with self._lock:
            self._in_flight.update(files)
        try:
            self._upload(files)
            self._claim.check()
            crash_point("store.uploaded")
            yield
            with self._lock:
                self._stored.update(files)
        finally:
            with self._lock:
                self._in_flight -= Counter(files)
        self._has_grown(size)

    @contextlib.contextmanager
    def cloning(self, clones: Mapping[Path, Path], on_step: Callable[[], None] = _no_step) -> Iterator[None]:
        targets = list(clones.values())
        with self._lock:
            self._in_flight.update(targets)
        try:
            self.claim()
            self._each((partial(self._copy, source, target) for source, target in clones.items()), on_step)
            self._link(clones, _no_step)  # the copies that are here; the others are fetched when they are opened
            self._claim.check()
            crash_point("store.uploaded")
            yield
            with self._lock:
                self._stored.update(targets)
        finally:
            with self._lock:
                self._in_flight -= Counter(targets)
        self._has_grown(sum(target.stat().st_size for target in targets if target.exists()))

    def _copy(self, source: Path, target: Path) -> None:
        try:
            self.objects.copy(self.name(source), self.name(target))
        except ObjectMissing:
            if not source.exists():
                raise DataIntegrityError(f"{self.objects.uri}/{self.name(source)} is missing") from None
            self.objects.upload(self.name(target), source)

    def _upload(self, files: Iterable[Path]) -> None:
        self.claim()
        self._each(partial(self.objects.upload, self.name(path), path) for path in files)

    def _each(self, calls: Iterable[Callable[[], None]], on_step: Callable[[], None] = _no_step) -> None:
        """Runs calls on the threads for uploads. Raises what the first failed one raised; the others have ended."""
        running = [self._uploads.submit(call) for call in calls]
        try:
            for one in as_completed(running):
                one.result()
                on_step()
        finally:
            for one in running:
                one.cancel()
            wait(running)

    def _has_grown(self, size: int) -> None:
        with self._lock:
            self._local_bytes += size
            is_full = self._local_bytes > self._cache_bytes
        if is_full:
            self.on_full()

    # Tasks elsewhere

    @contextlib.contextmanager
    def lent(self, files: Sequence[Path]) -> Iterator[Lent]:
        """Objects with the contents of `files`, for a program elsewhere, which writes others. Raises IoFailed."""
        with self._lock:
            stored = {path: path in self._stored for path in files}
        with self._lending.lent(stored) as lent:
            yield lent

    def take(self, lent: Lent, made: Sequence[str]) -> None:
        """Brings what was written elsewhere into its places, as if it had been written here; see `Lending.take`."""
        self._lending.take(lent, made, self._parts)

    # Removing

    def evict(self, named: Mapping[Path, int]) -> None:
        """Removes the least recently used copies until the others fit. Files that are open stay: their space would not
        be free, and they would be fetched again."""
        local = {path: size for path, size in named.items() if path.exists()}
        left = sum(local.values())
        if left > self._cache_bytes:
            open_files = mapped_files()
            for path in sorted(local, key=lambda path: self._used_at.get(path, 0.0)):
                if left <= self._cache_bytes:
                    break
                if str(path) in open_files:
                    continue
                with self._lock:
                    if path in self._stored and path not in self._kept and path not in self._in_flight:
                        path.unlink(missing_ok=True)
                        left -= local[path]
        self._used_at = {path: at for path, at in list(self._used_at.items()) if path in named}
        with self._lock:
            self._local_bytes = left
        metrics.store_cached_bytes.set(left)

    def evict_copies(self) -> None:
        """As `evict`, in a directory where each file is a copy."""
        files = self._copies()
        with self._lock:
            self._stored.update(files)
        self.evict(files)

    def count_copies(self) -> None:
        """As `evict_copies`, but none goes."""
        size = sum(self._copies().values())
        with self._lock:
            self._local_bytes = size
        metrics.store_cached_bytes.set(size)

    def _copies(self) -> dict[Path, int]:
        return {path: path.stat().st_size for path in walk_files(self.paths.root / _SEGMENTS)}

    def _is_read_elsewhere(self, name: str) -> bool:
        kind, collection_id, *more = name.split("/")
        return kind == _SEGMENTS and len(more) > 1 and self.is_held(int(collection_id), int(more[0]))

    def sweep(self, named: Named, wait_seconds: float) -> int:
        """Uploads named files without an object, and removes objects that no catalog has named for `wait_seconds`
        and no other process holds.

        Returns the number of removed objects. Raises IoFailed, and DataIntegrityError if a named file is lost.
        """
        self.claim()
        self._claim.check()
        sizes = self.objects.sizes()
        with self._lock:
            in_flight = {self.name(path) for path in self._in_flight}
        # Read after `in_flight`: a file that has left it meanwhile is named here.
        wanted = {self.name(path): size for path, size in named().items()}
        lacking = {name for name, size in wanted.items() if sizes.get(name) != size}
        local = {name for name in lacking if _is_whole(self.paths.root / name)}
        self._upload(self.paths.root / name for name in local)
        with self._lock:
            self._stored = {self.paths.root / name for name in wanted if name not in lacking or name in local}
        now = time.monotonic()
        unnamed = (sizes.keys() - wanted.keys() - in_flight) | self._lending.leftovers().keys()
        self._unnamed_since = {name: self._unnamed_since.get(name, now) for name in unnamed}
        due = {
            name
            for name, since in self._unnamed_since.items()
            if now - since >= wait_seconds and not self._is_read_elsewhere(name)
        }
        with self._lock:
            kept = {self.name(path) for path in (*self._in_flight, *(named() if due else ()))}
            removed = sorted(due - kept)
            self.objects.remove(removed)
        for name in due:
            del self._unnamed_since[name]
        if removed:
            crash_point("store.swept")
        current = {self.name(path) for path in named()}
        if gone := sorted((lacking - local) & current):
            raise DataIntegrityError(
                f"{len(gone)} files are whole neither in {self.paths.root} nor in {self.objects.uri}, such as {gone[0]}"
            )
        return len(removed)


def _is_whole(path: Path) -> bool:
    try:
        verify_sealed(path)
    except DataIntegrityError:
        return False
    return True


def read_delta(store: SegmentStore, collection_id: int, delta_id: int) -> DeleteBatch:
    path = store.paths.delta(collection_id, delta_id)
    return store.read([path], partial(open_delta, path))


def open_store(
    paths: SegmentPaths, place: Place | None, cache_bytes: int, catalog: str = "", epoch: int = 0
) -> SegmentStore:
    """The store of a data directory; `place` None is the directory itself. `catalog`, `epoch`: see Claim.

    Raises UnexpectedError if the directory and the place do not belong together, and IoFailed if a place that was never
    used cannot be reached.
    """
    if place is None:
        refuse_alone(paths.root)
        return SegmentStore(paths)
    store = CachedStore(paths, Objects(place), cache_bytes, catalog, epoch)
    try:
        store.claim()
    except IoFailed as error:
        if not was_claimed(paths.root, store.objects.uri):
            raise
        _log.warning("%s", error.message)
    return store


def open_copies(paths: SegmentPaths, place: Place, cache_bytes: int) -> SegmentStore:
    """The store of a directory that holds copies alone and belongs to no catalog."""
    store = CachedStore(paths, Objects(place), cache_bytes)
    store.count_copies()
    is_full = threading.Event()

    def evict() -> None:
        is_full.wait(FIRST_EVICTION_SECONDS)
        while True:
            is_full.clear()
            store.evict_copies()
            time.sleep(_EVICTION_PAUSE_SECONDS)
            is_full.wait()

    store.on_full = is_full.set
    threading.Thread(target=evict, name="evict", daemon=True).start()
    return store
