"""Backups: copies of all files of a server as it was at one moment, and their return into an empty directory.

A place holds any number of backups, and each file once, so a later backup stores only what is new. Everything is
verified by its own checksum when it is read, on both ways.
"""

from __future__ import annotations

import contextlib
import platform
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from milvine import __version__, file_locks
from milvine.catalog.point_in_time import forget_history
from milvine.catalog.sqlite_file import CATALOG_FILE, read_catalog
from milvine.crash_points import crash_point
from milvine.datanode.catalog_files import named_files
from milvine.datanode.check import check_size
from milvine.datanode.moments import read_moment
from milvine.datanode.stored_backups import (
    AT_A_TIME,
    BACKUPS,
    FILES,
    MANIFEST,
    Backup,
    BackupFile,
    OnBytes,
    encode,
    fetch_catalog,
    is_whole_in,
    new_id,
)
from milvine.errors import DataIntegrityError, ParameterInvalid, write_failure
from milvine.model.records import record
from milvine.storage.backup_places import BackupPlace
from milvine.storage.directories import make_directory, sync_directory
from milvine.storage.files import (
    FOOTER_BYTES,
    checksum_in,
    crc32c,
    stored_checksum,
    verify_sealed,
    walk_files,
)
from milvine.storage.logs import LocalLogs
from milvine.storage.objects import ObjectMissing, Objects
from milvine.storage.resource_files import resource_directory
from milvine.storage.segment_files import KEPT_LOGS, SegmentPaths


@record
class Wanted:
    """What a restore brings: files, and then by `finish`, in the directory that has them, the catalog and the logs."""

    files: tuple[BackupFile, ...]
    finish: Callable[[Path], None]

    @property
    def size(self) -> int:
        return sum(one.size for one in self.files)


@record
class Copied:
    """What a backup added to its place."""

    backup: Backup
    new_files: int
    new_bytes: int
    repaired: tuple[str, ...]
    """Files that were in the place, damaged, and are stored again."""


@record
class HeldSource:
    """What a server holds for a backup. `image`: the directory with its catalog and its file resources; `objects`:
    where the segment files are that are not in the data directory."""

    data_dir: Path
    image: Path
    objects: Objects | None


def copy_to(place: BackupPlace, held: HeldSource, on_bytes: OnBytes, *, verifies_stored: bool) -> Copied:
    """Copies what is not in the place yet. `verifies_stored`: files that are there are read again, and stored again if
    they are not whole; otherwise their sizes are trusted."""
    data_dir, image, objects = held.data_dir, held.image, held.objects
    catalog_file = image / CATALOG_FILE
    snapshot = read_catalog(catalog_file)
    sources = {path: (path, size) for path, size in named_files(SegmentPaths(data_dir), snapshot).items()}
    for path in image.glob("*.words"):
        sources[resource_directory(data_dir) / path.name] = path, path.stat().st_size
    for path in image.glob(f"{KEPT_LOGS}/*/*.wal"):
        sources[data_dir / path.relative_to(image)] = path, path.stat().st_size
    stored = place.sizes(FILES)
    total, finished, added = sum(size for _, size in sources.values()), 0, [0]
    files = []
    repaired: list[str] = []

    def copy(name: str, source: Path, size: int) -> tuple[BackupFile, bool]:
        is_log = name.startswith(KEPT_LOGS)
        with (_Log if is_log else _Source)(source, name, size, objects) as found:
            one = BackupFile(name, size, found.checksum())
            is_new = stored.get(one.stored_name) != size
            is_damaged = not is_new and verifies_stored and not is_whole_in(place, one)
            if is_new or is_damaged:
                place.put(one.stored_name, found.verified())
                crash_point("backup.file_stored")
        if is_damaged:
            repaired.append(one.path)
        return one, is_new

    with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="backup") as pool:
        running = [
            pool.submit(copy, path.relative_to(data_dir).as_posix(), source, size)
            for path, (source, size) in sorted(sources.items())
        ]
        try:
            for copied in as_completed(running):
                one, is_new = copied.result()
                files.append(one)
                if is_new:
                    added.append(one.size)
                finished += one.size
                on_bytes(finished, total)
        finally:
            for copied in running:
                copied.cancel()
    content = catalog_file.read_bytes()
    backup = Backup(
        new_id(place),
        __version__,
        (len(content), crc32c([content])),
        tuple(sorted((one for one in files if not one.is_log), key=lambda one: one.path)),
        len(snapshot.collections),
        sum(meta.row_count for metas in snapshot.segments.values() for meta in metas),
        tuple(sorted((one for one in files if one.is_log), key=lambda one: one.path)),
        read_moment(image),
        f"{data_dir} on {platform.node()}",
    )
    manifest = image / MANIFEST
    manifest.write_bytes(encode(backup))
    crash_point("backup.files_stored")
    place.put(f"{BACKUPS}{backup.backup_id}/{CATALOG_FILE}", catalog_file)
    crash_point("backup.catalog_stored")
    place.put(f"{BACKUPS}{backup.backup_id}/{MANIFEST}", manifest)
    return Copied(backup, len(added) - 1, sum(added) + len(content), tuple(sorted(repaired)))


class _Source:
    """A sealed file in the data directory or, if it is not there, in the object store."""

    def __init__(self, path: Path, name: str, size: int, objects: Objects | None) -> None:
        self._path = path
        self._name = name
        self._size = size
        self._objects = objects
        self._scratch = contextlib.ExitStack()

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_error: object) -> None:
        self._scratch.close()

    def checksum(self) -> int:
        if self._objects is not None and not self._path.exists():
            try:
                ending = self._objects.ending(self._name, self._size, FOOTER_BYTES)
            except ObjectMissing:
                raise DataIntegrityError(f"{self._objects.uri}/{self._name} is missing") from None
            return checksum_in(ending, self._size, f"{self._objects.uri}/{self._name}")
        check_size(self._path, self._size)
        return stored_checksum(self._path)

    def verified(self) -> Path:
        """A local file with the content, whose checksum is right."""
        path = self._path
        if self._objects is not None and not path.exists():
            path = Path(self._scratch.enter_context(tempfile.TemporaryDirectory())) / path.name
            try:
                self._objects.download(self._name, path, lambda: None)
            except ObjectMissing:
                raise DataIntegrityError(f"{self._objects.uri}/{self._name} is missing") from None
        check_size(path, self._size)
        verify_sealed(path)
        return path


class _Log(_Source):
    """A log file that is kept."""

    def checksum(self) -> int:
        check_size(self._path, self._size)
        return crc32c([self._path.read_bytes()])

    def verified(self) -> Path:
        return self._path


def everything_in(place: BackupPlace, backup: Backup) -> Wanted:
    """A backup as it is."""
    return Wanted(backup.files, lambda root: _bring_catalog(place, backup, root))


def bring_back(place: BackupPlace, wanted: Wanted, target: Path, on_bytes: OnBytes) -> None:
    """Makes a data directory. `target` is empty or absent, and whole once it is there; a copy that ended
    halfway is beside it and goes on. Raises DataIntegrityError for a damaged file, DiskLimitExceeded and IoFailed."""
    if target.exists() and not target.is_dir():
        raise ParameterInvalid(f"{target} is not a directory")
    if target.exists() and any(target.iterdir()):
        raise ParameterInvalid(f"{target} is not empty")
    unfinished = target.with_name(f"{target.name}.unfinished")
    try:
        make_directory(unfinished)
        with file_locks.alone_in(unfinished) as is_alone:
            if not is_alone:
                raise ParameterInvalid(f"another restore is writing to {target}")
            _bring_files(place, wanted, unfinished, on_bytes)
            crash_point("backup.files_fetched")
            wanted.finish(unfinished)
            crash_point("backup.catalog_fetched")
            if target.exists():
                target.rmdir()
            unfinished.rename(target)
        sync_directory(target.parent)
    except OSError as error:
        raise write_failure(error.filename or unfinished, error) from error


def _bring_files(place: BackupPlace, wanted: Wanted, root: Path, on_bytes: OnBytes) -> None:
    paths = {root / one.path for one in wanted.files}
    for path in [*walk_files(root)]:
        if path not in paths:
            path.unlink()
    for directory in {path.parent for path in paths}:
        make_directory(directory)

    def fetch(one: BackupFile) -> int:
        target = root / one.path
        if not one.is_whole(target):
            place.fetch(one.stored_name, target)
            if not one.is_whole(target):
                target.unlink(missing_ok=True)
                raise DataIntegrityError(f"{one.stored_name} is damaged")
            crash_point("backup.file_fetched")
        return one.size

    finished = 0
    with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="restore") as pool:
        running = [pool.submit(fetch, one) for one in wanted.files]
        try:
            for fetched in as_completed(running):
                finished += fetched.result()
                on_bytes(finished, wanted.size)
        finally:
            for fetched in running:
                fetched.cancel()
    for directory in {path.parent for path in paths}:
        sync_directory(directory)


def _bring_catalog(place: BackupPlace, backup: Backup, root: Path) -> None:
    target = root / CATALOG_FILE
    fetch_catalog(place, backup, target)
    # What the backed-up server does later is not what this directory goes through, and both may use one place.
    forget_history(target)
    for collection_id in read_catalog(target).collections:
        LocalLogs(SegmentPaths(root)).create(collection_id).close()
    sync_directory(root)
