"""Where backups are: a directory, or an object store. Names have slashes, and nothing that is there ever changes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from milvine.errors import IoFailed, write_failure
from milvine.storage.directories import make_directory, sync_directory
from milvine.storage.files import walk_files
from milvine.storage.objects import ObjectMissing, Objects, Place

_FILE_SCHEME = "file://"
_UNFINISHED = ".unfinished"
_STEP_BYTES = 4 << 20


class BackupPlace(Protocol):
    """Every failure is an IoFailed, a DiskLimitExceeded or a WriteFailed; a damaged file of an encrypted place is a
    DataIntegrityError."""

    def is_in(self, directory: Path) -> bool:
        """Whether its files are in a directory of this machine, or below it."""
        ...

    def sizes(self, prefix: str) -> dict[str, int]:
        """Sizes of the files whose names begin with `prefix`, by name."""
        ...

    def has(self, name: str) -> bool: ...

    def never_finished(self, prefix: str) -> list[str]:
        """Names that begin with `prefix`, of files that were never finished; an object store shows none."""
        ...

    def put(self, name: str, path: Path) -> None:
        """Stores a file whole, durably as far as the place can."""
        ...

    def writing(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A file that is stored, whole, after the block, and not at all if that raises."""
        ...

    def reading(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A stored file. Raises IoFailed if it is not there."""
        ...

    def content(self, name: str) -> bytes:
        """A whole small file. Raises IoFailed if it is not there."""
        ...

    def fetch(self, name: str, target: Path) -> None:
        """Writes and fsyncs `target`; the caller syncs its directory. Raises IoFailed if the file is not there."""
        ...

    def remove(self, names: Iterable[str]) -> None:
        """No error for what is gone."""
        ...


class BackupDirectory:
    def __init__(self, root: Path) -> None:
        self._root = root

    def is_in(self, directory: Path) -> bool:
        return self._root.resolve().is_relative_to(directory.resolve())

    def sizes(self, prefix: str) -> dict[str, int]:
        found = walk_files(self._root / prefix)
        named = {path.relative_to(self._root).as_posix(): path for path in found if path.suffix != _UNFINISHED}
        return {name: path.stat().st_size for name, path in named.items()}

    def has(self, name: str) -> bool:
        return (self._root / name).is_file()

    def never_finished(self, prefix: str) -> list[str]:
        found = walk_files(self._root / prefix)
        return [path.relative_to(self._root).as_posix() for path in found if path.suffix == _UNFINISHED]

    def put(self, name: str, path: Path) -> None:
        with self.writing(name) as written:
            copy_into(path, written)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        target = self._root / name
        unfinished = target.with_name(target.name + _UNFINISHED)
        try:
            make_directory(target.parent)
            with unfinished.open("wb") as written:
                yield written
                written.flush()
                os.fsync(written.fileno())
            unfinished.replace(target)
            sync_directory(target.parent)
        except OSError as error:
            with suppress(OSError):  # which has the same reason
                unfinished.unlink(missing_ok=True)
            raise write_failure(target, error) from error
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    @contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        path = self._root / name
        try:
            file = path.open("rb")
        except OSError as error:
            raise _unreadable(error, path) from error
        with file:
            yield file

    def content(self, name: str) -> bytes:
        try:
            return (self._root / name).read_bytes()
        except OSError as error:
            raise _unreadable(error, self._root / name) from error

    def fetch(self, name: str, target: Path) -> None:
        with self.reading(name) as read:
            write_synced(read, target)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self._root / name).unlink(missing_ok=True)


def copy_into(source: Path, written: BinaryIO) -> None:
    with source.open("rb") as read:
        shutil.copyfileobj(read, written, _STEP_BYTES)


def write_synced(read: BinaryIO, target: Path) -> None:
    """Copies what is left of a file into a new one. Raises DiskLimitExceeded, WriteFailed, and what reading raises."""
    try:
        with target.open("wb") as written:
            shutil.copyfileobj(read, written, _STEP_BYTES)
            written.flush()
            os.fsync(written.fileno())
    except OSError as error:
        raise write_failure(target, error) from error


def _unreadable(error: OSError, path: Path) -> IoFailed:
    return IoFailed(f"cannot read {path}: {error.strerror}")


class BackupObjects:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def is_in(self, directory: Path) -> bool:
        return False

    def sizes(self, prefix: str) -> dict[str, int]:
        return self._objects.sizes(prefix)

    def has(self, name: str) -> bool:
        return self._objects.beginning(name, 1) is not None

    def never_finished(self, prefix: str) -> list[str]:
        return []

    def put(self, name: str, path: Path) -> None:
        self._objects.upload(name, path)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        with self._objects.writing(name) as written:
            yield written

    @contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        found = self._objects.reader(name)
        if found is None:
            raise IoFailed(f"{self._objects.uri}/{name} is missing")
        with found[0] as file:
            yield file

    def content(self, name: str) -> bytes:
        content = self._objects.content(name)
        if content is None:
            raise IoFailed(f"{self._objects.uri}/{name} is missing")
        return content

    def fetch(self, name: str, target: Path) -> None:
        try:
            self._objects.download(name, target, lambda: None)
        except ObjectMissing:
            raise IoFailed(f"{self._objects.uri}/{name} is missing") from None
        except OSError as error:
            raise write_failure(target, error) from error

    def remove(self, names: Iterable[str]) -> None:
        self._objects.remove(names)


def open_backup_place(uri: str, endpoint: str = "", region: str = "") -> BackupPlace:
    """A path, `file://` and a path, or the URI of an object store. Raises UnexpectedError for one that is none."""
    if "://" not in uri or uri.startswith(_FILE_SCHEME):
        return BackupDirectory(Path(uri.removeprefix(_FILE_SCHEME)))
    return BackupObjects(Objects(Place(uri, endpoint, region)))
