"""Backups: copies of all files of a server as it was at one moment, and their return into an empty directory.

A place holds any number of backups. `files/` has each sealed file once, under its path in the data directory and its
checksum, so a later backup stores only what is new. `backups/ID/` has the catalog and, written last, `manifest.json`: a
backup without it was never finished. Everything is verified by its own checksum when it is read, on both ways.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from milvine import __version__, file_locks
from milvine.catalog.point_in_time import forget_history
from milvine.catalog.sqlite_file import CATALOG_FILE, read_catalog
from milvine.crash_points import crash_point
from milvine.datanode.catalog_files import named_files
from milvine.datanode.check import check_size
from milvine.datanode.moments import Moment, decode_moment, encode_moment, read_moment
from milvine.errors import DataIntegrityError, ParameterInvalid, write_failure
from milvine.storage.backup_places import BackupPlace
from milvine.storage.directories import make_directory, sync_directory
from milvine.storage.files import (
    FOOTER_BYTES,
    checksum_in,
    checksum_of,
    crc32c,
    stored_checksum,
    verify_sealed,
    walk_files,
)
from milvine.storage.logs import LocalLogs
from milvine.storage.objects import ObjectMissing, Objects
from milvine.storage.resource_files import resource_directory
from milvine.storage.segment_files import KEPT_LOGS, SegmentPaths

_VERSION = 1
_BACKUPS, _FILES, _MANIFEST = "backups/", "files/", "manifest.json"
_AT_A_TIME = 4
OnBytes = Callable[[int, int], None]
"""Called with the bytes that are done and the bytes of all."""


@dataclass(frozen=True, slots=True)
class BackupFile:
    """`path` is below the data directory."""

    path: str
    size: int
    checksum: int

    @property
    def stored_name(self) -> str:
        return f"{_FILES}{self.path}.{self.checksum:08x}"

    @property
    def is_log(self) -> bool:
        """Its checksum is of the whole file then, else of the payload of a sealed file."""
        return self.path.startswith(KEPT_LOGS)

    def is_whole(self, path: Path) -> bool:
        """Whether a local file has the content."""
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        if self.is_log:
            return crc32c([path.read_bytes()]) == self.checksum
        try:
            verify_sealed(path)
            return stored_checksum(path) == self.checksum
        except DataIntegrityError:
            return False


@dataclass(frozen=True, slots=True)
class Backup:
    """A finished backup. `catalog`: size and checksum of the catalog. `logs`: of sealed rows, for moments before it;
    `moment` None: an earlier Milvine made it."""

    backup_id: str
    version: str
    catalog: tuple[int, int]
    files: tuple[BackupFile, ...]
    collections: int
    rows: int
    logs: tuple[BackupFile, ...] = ()
    moment: Moment | None = None

    @property
    def stored_files(self) -> tuple[BackupFile, ...]:
        return self.files + self.logs

    @property
    def size(self) -> int:
        return self.catalog[0] + sum(one.size for one in self.stored_files)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a restore brings: files, and then by `finish`, in the directory that has them, the catalog and the logs."""

    files: tuple[BackupFile, ...]
    finish: Callable[[Path], None]

    @property
    def size(self) -> int:
        return sum(one.size for one in self.files)


@dataclass(frozen=True, slots=True)
class Copied:
    """What a backup added to its place."""

    backup: Backup
    new_files: int
    new_bytes: int
    repaired: tuple[str, ...]
    """Files that were in the place, damaged, and are stored again."""


@dataclass(frozen=True, slots=True)
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
    stored = place.sizes(_FILES)
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

    with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="backup") as pool:
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
        _new_id(place),
        __version__,
        (len(content), crc32c([content])),
        tuple(sorted((one for one in files if not one.is_log), key=lambda one: one.path)),
        len(snapshot.collections),
        sum(meta.row_count for metas in snapshot.segments.values() for meta in metas),
        tuple(sorted((one for one in files if one.is_log), key=lambda one: one.path)),
        read_moment(image),
    )
    manifest = image / _MANIFEST
    manifest.write_bytes(_encode(backup))
    crash_point("backup.files_stored")
    place.put(f"{_BACKUPS}{backup.backup_id}/{CATALOG_FILE}", catalog_file)
    crash_point("backup.catalog_stored")
    place.put(f"{_BACKUPS}{backup.backup_id}/{_MANIFEST}", manifest)
    return Copied(backup, len(added) - 1, sum(added) + len(content), tuple(sorted(repaired)))


def is_whole_in(place: BackupPlace, one: BackupFile) -> bool:
    """Whether a stored file is what was stored, read from the place."""
    try:
        with place.reading(one.stored_name) as file:
            if one.is_log:
                return crc32c([file.read()]) == one.checksum
            return checksum_of(file, one.size, one.stored_name) == one.checksum
    except DataIntegrityError:
        return False


def damaged_files(place: BackupPlace, backup: Backup, on_bytes: OnBytes) -> list[str]:
    """The names of the files of a backup that are missing or not what was stored, all of them read."""
    stored, finished, damaged = place.sizes(_FILES), 0, []
    files = backup.stored_files
    with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="verify") as pool:
        for one, is_whole in zip(
            files,
            pool.map(lambda one: one.stored_name in stored and is_whole_in(place, one), files),
            strict=True,
        ):
            finished += one.size
            on_bytes(finished, backup.size)
            if not is_whole:
                damaged.append(one.stored_name)
    name = f"{_BACKUPS}{backup.backup_id}/{CATALOG_FILE}"
    content = place.content(name)
    if (len(content), crc32c([content])) != backup.catalog:
        damaged.append(name)
    on_bytes(backup.size, backup.size)
    return damaged


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


def _new_id(place: BackupPlace) -> str:
    """Later ones sort after earlier ones."""
    taken = {name.split("/")[1] for name in place.sizes(_BACKUPS)}
    wanted = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    number = 0
    while (found := f"{wanted}-{number}" if number else wanted) in taken:
        number += 1
    return found


def _encode(backup: Backup) -> bytes:
    members: dict[str, Any] = {
        "format": _VERSION,
        "id": backup.backup_id,
        "milvine": backup.version,
        "catalog": {"bytes": backup.catalog[0], "crc32c": backup.catalog[1]},
        "collections": backup.collections,
        "rows": backup.rows,
        "files": [[one.path, one.size, one.checksum] for one in backup.files],
        "logs": [[one.path, one.size, one.checksum] for one in backup.logs],
        "moment": None if backup.moment is None else encode_moment(backup.moment),
    }
    return orjson.dumps(members | {"crc32c": crc32c([orjson.dumps(members)])})


def _decode(content: bytes, name: str) -> Backup:
    try:
        members = orjson.loads(content)
        checksum = members.pop("crc32c")
        if members["format"] != _VERSION:
            raise DataIntegrityError(f"{name} has format {members['format']}, this program reads {_VERSION}")
        if crc32c([orjson.dumps(members)]) != checksum:
            raise DataIntegrityError(f"{name} does not match its checksum")
        catalog = members["catalog"]
        files = tuple(BackupFile(*one) for one in members["files"])
        moment = members.get("moment")
        return Backup(
            members["id"],
            members["milvine"],
            (catalog["bytes"], catalog["crc32c"]),
            files,
            members["collections"],
            members["rows"],
            tuple(BackupFile(*one) for one in members.get("logs", ())),
            None if moment is None else decode_moment(moment),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataIntegrityError(f"{name} is damaged: it does not describe a backup") from error


def backup_ids(place: BackupPlace) -> list[str]:
    """The finished backups, oldest first."""
    return sorted(name.split("/")[1] for name in place.sizes(_BACKUPS) if name.endswith(f"/{_MANIFEST}"))


def read_backup(place: BackupPlace, backup_id: str) -> Backup:
    """Raises DataIntegrityError naming a damaged manifest."""
    name = f"{_BACKUPS}{backup_id}/{_MANIFEST}"
    return _decode(place.content(name), name)


def remove_old(place: BackupPlace, kept: int) -> list[str]:
    """Removes all but the newest `kept` backups, and the files that none of these has. Returns the removed ids."""
    ids = backup_ids(place)
    gone, left = ids[: max(0, len(ids) - kept)], ids[max(0, len(ids) - kept) :]

    def stored_names(backup_id: str) -> set[str]:
        return {one.stored_name for one in read_backup(place, backup_id).stored_files}

    needed = {name for backup_id in left for name in stored_names(backup_id)}
    for backup_id in gone:
        files = stored_names(backup_id)
        # The manifest first: what is left without one is no backup.
        place.remove([f"{_BACKUPS}{backup_id}/{_MANIFEST}"])
        place.remove([f"{_BACKUPS}{backup_id}/{CATALOG_FILE}"])
        place.remove(sorted(files - needed))
    return gone


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
    with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="restore") as pool:
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


def fetch_catalog(place: BackupPlace, backup: Backup, target: Path) -> None:
    """Raises DataIntegrityError if it is damaged."""
    name = f"{_BACKUPS}{backup.backup_id}/{CATALOG_FILE}"
    place.fetch(name, target)
    content = target.read_bytes()
    if (len(content), crc32c([content])) != backup.catalog:
        raise DataIntegrityError(f"{name} is damaged")


def _bring_catalog(place: BackupPlace, backup: Backup, root: Path) -> None:
    target = root / CATALOG_FILE
    fetch_catalog(place, backup, target)
    # What the backed-up server does later is not what this directory goes through, and both may use one place.
    forget_history(target)
    for collection_id in read_catalog(target).collections:
        LocalLogs(SegmentPaths(root)).create(collection_id).close()
    sync_directory(root)
