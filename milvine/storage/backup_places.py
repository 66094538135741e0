"""Where backups are: a directory, or an object store. Names have slashes, and nothing that is there ever changes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from milvine.errors import DiskLimitExceeded, IoFailed
from milvine.storage.directories import make_directory, sync_directory
from milvine.storage.files import walk_files
from milvine.storage.objects import ObjectMissing, Objects, Place

_FILE_SCHEME = "file://"
_UNFINISHED = ".unfinished"


class BackupPlace(Protocol):
    """Every failure is an IoFailed or a DiskLimitExceeded."""

    def is_in(self, directory: Path) -> bool:
        """Whether its files are in a directory of this machine, or below it."""
        ...

    def sizes(self, prefix: str) -> dict[str, int]:
        """Sizes of the files whose names begin with `prefix`, by name."""
        ...

    def put(self, name: str, path: Path) -> None:
        """Stores a file whole, durably as far as the place can."""
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

    def put(self, name: str, path: Path) -> None:
        target = self._root / name
        unfinished = target.with_name(target.name + _UNFINISHED)
        try:
            make_directory(target.parent)
            _copy(path, unfinished)
            unfinished.replace(target)
            sync_directory(target.parent)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise _failed(error, target) from error

    def content(self, name: str) -> bytes:
        try:
            return (self._root / name).read_bytes()
        except OSError as error:
            raise _unreadable(error, self._root / name) from error

    def fetch(self, name: str, target: Path) -> None:
        source = self._root / name
        try:
            with source.open("rb"):
                pass
        except OSError as error:
            raise _unreadable(error, source) from error
        try:
            _copy(source, target)
        except OSError as error:
            raise _failed(error, target) from error

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self._root / name).unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("wb") as written:
        shutil.copyfileobj(read, written, 4 << 20)
        written.flush()
        os.fsync(written.fileno())


def _failed(error: OSError, path: Path) -> DiskLimitExceeded:
    return DiskLimitExceeded(f"cannot write {path}: {error.strerror}")


def _unreadable(error: OSError, path: Path) -> IoFailed:
    return IoFailed(f"cannot read {path}: {error.strerror}")


class BackupObjects:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def is_in(self, directory: Path) -> bool:
        return False

    def sizes(self, prefix: str) -> dict[str, int]:
        return self._objects.sizes(prefix)

    def put(self, name: str, path: Path) -> None:
        self._objects.upload(name, path)

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
            raise _failed(error, target) from error

    def remove(self, names: Iterable[str]) -> None:
        self._objects.remove(names)


def open_backup_place(uri: str, endpoint: str = "", region: str = "") -> BackupPlace:
    """A path, `file://` and a path, or the URI of an object store. Raises UnexpectedError for one that is none."""
    if "://" not in uri or uri.startswith(_FILE_SCHEME):
        return BackupDirectory(Path(uri.removeprefix(_FILE_SCHEME)))
    return BackupObjects(Objects(Place(uri, endpoint, region)))
