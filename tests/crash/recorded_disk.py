"""Records every operation on files in order, and computes what a power loss may leave of them.

It replaces the functions of `os` with which the storage layer writes, below one directory, and keeps names, bytes and
syncs apart. A file's bytes survive after an fsync of the file; a new or removed name survives after an fsync of its
directory. Of the rest anything may survive: nothing, all of it, half of the last write, or some of it.

SQLite is trusted to make a commit with synchronous=FULL durable as a whole, so a commit is recorded as one durable
operation with the database's image.
"""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import io
import os
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from milvine.catalog.sqlite_file import CATALOG_FILE
from milvine.catalog.store import Catalog

_NOT_OURS = ("LOCK", CATALOG_FILE)


@dataclass(frozen=True)
class MakeDirectory:
    path: str


@dataclass(frozen=True)
class Create:
    path: str
    file: int


@dataclass(frozen=True)
class Write:
    file: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Sync:
    file: int


@dataclass(frozen=True)
class SyncDirectory:
    path: str


@dataclass(frozen=True)
class Remove:
    path: str


@dataclass(frozen=True)
class Commit:
    image: bytes


Operation = MakeDirectory | Create | Write | Sync | SyncDirectory | Remove | Commit


@dataclass
class _File:
    durable: bytes = b""
    pending: list[Write] = field(default_factory=list)

    def content(self, writes: list[Write]) -> bytes:
        if not writes:
            return self.durable
        data = bytearray(self.durable)
        for write in writes:
            data.extend(bytes(max(0, write.offset + len(write.data) - len(data))))
            data[write.offset : write.offset + len(write.data)] = write.data
        return bytes(data)


@dataclass
class _Directory:
    """Entries by name: a file's number or another directory."""

    durable: dict[str, int | _Directory] = field(default_factory=dict)
    now: dict[str, int | _Directory] = field(default_factory=dict)


Files = dict[str, bytes | None]
"""A directory's files by path, and its directories, as None; a directory precedes what is in it."""


class Disk:
    """Names and bytes after some operations, the durable ones apart. `image`: the catalog, empty before any commit."""

    def __init__(self, operations: Iterable[Operation] = ()) -> None:
        self._root = _Directory()
        self._files: dict[int, _File] = {}
        self.image = b""
        for operation in operations:
            self.apply(operation)

    def _find(self, path: str) -> tuple[_Directory, str]:
        *parents, name = Path(path).parts
        directory = self._root
        for parent in parents:
            entry = directory.now[parent]
            assert isinstance(entry, _Directory)
            directory = entry
        return directory, name

    def apply(self, operation: Operation) -> None:
        match operation:
            case MakeDirectory(path):
                directory, name = self._find(path)
                directory.now[name] = _Directory()
            case Create(path, file):
                directory, name = self._find(path)
                directory.now[name] = file
                self._files[file] = _File()
            case Remove(path):
                directory, name = self._find(path)
                del directory.now[name]
            case SyncDirectory(path):
                found = self._root
                if path:
                    directory, name = self._find(path)
                    entry = directory.now[name]
                    assert isinstance(entry, _Directory)
                    found = entry
                found.durable = dict(found.now)
            case Write(file):
                self._files[file].pending.append(operation)
            case Sync(file):
                state = self._files[file]
                state.durable, state.pending = state.content(state.pending), []
            case Commit(image):
                self.image = image

    def paths(self) -> dict[str, int]:
        """The numbers of the files that have a name."""

        def walk(directory: _Directory, prefix: str) -> Iterator[tuple[str, int]]:
            for name, entry in directory.now.items():
                if isinstance(entry, _Directory):
                    yield from walk(entry, f"{prefix}{name}/")
                else:
                    yield f"{prefix}{name}", entry

        return dict(walk(self._root, ""))

    def files(self, survivors: Survivors) -> Files:
        """What survives a power loss."""
        found: Files = {CATALOG_FILE: self.image}
        self._add_files(self._root, "", survivors, found)
        return found

    def _add_files(self, directory: _Directory, prefix: str, survivors: Survivors, found: Files) -> None:
        entries = dict(directory.durable)
        for name in sorted(directory.durable.keys() | directory.now.keys()):
            before, after = directory.durable.get(name), directory.now.get(name)
            if before is not after and before != after and survivors.keeps_name():
                if after is None:
                    entries.pop(name, None)
                else:
                    entries[name] = after
        for name, entry in entries.items():
            if isinstance(entry, _Directory):
                found[f"{prefix}{name}"] = None
                self._add_files(entry, f"{prefix}{name}/", survivors, found)
            else:
                state = self._files[entry]
                found[f"{prefix}{name}"] = state.content(survivors.writes(state.pending))


def save(files: Files, target: Path) -> None:
    """Writes the files into a new directory."""
    target.mkdir(parents=True)
    for path, content in files.items():
        if content is None:
            (target / path).mkdir()
        else:
            (target / path).write_bytes(content)


def digest(files: Files) -> bytes:
    """Equal for equal files."""
    found = hashlib.blake2b()
    for path, content in sorted(files.items()):
        found.update(f"{path}\0{-1 if content is None else len(content)}\0".encode())
        found.update(content or b"")
    return found.digest()


class Survivors:
    """Chooses which unsynced operations survive a power loss: here none."""

    def keeps_name(self) -> bool:
        return False

    def writes(self, pending: list[Write]) -> list[Write]:
        return []


class All(Survivors):
    """As after kill -9."""

    def keeps_name(self) -> bool:
        return True

    def writes(self, pending: list[Write]) -> list[Write]:
        return pending


class Torn(All):
    """All, but half of the last write."""

    def writes(self, pending: list[Write]) -> list[Write]:
        if not pending:
            return []
        last = pending[-1]
        return [*pending[:-1], Write(last.file, last.offset, last.data[: len(last.data) // 2])]


class Some(Survivors):
    """Any of them, in any order: names apart from bytes, later writes without earlier ones."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def keeps_name(self) -> bool:
        return self._rng.random() < 0.5

    def writes(self, pending: list[Write]) -> list[Write]:
        kept = [w for w in pending if self._rng.random() < 0.6]
        if kept and self._rng.random() < 0.5:
            place = self._rng.randrange(len(kept))
            write = kept[place]
            kept[place] = Write(write.file, write.offset, write.data[: self._rng.randrange(len(write.data) + 1)])
        return kept


class RecordedDisk:
    """Records what happens below `root`, which exists. `before`: the operations that made it what it is."""

    def __init__(self, root: Path, before: list[Operation] | None = None) -> None:
        self._root = root
        self._lock = threading.RLock()
        self.operations: list[Operation] = []
        known = Disk(before or [])
        self._numbers = known.paths()
        self._next = 1 + max((op.file for op in before or [] if isinstance(op, Create)), default=0)
        self._sizes = {n: (root / path).stat().st_size for path, n in self._numbers.items() if (root / path).is_file()}

    def _relative(self, path: Any) -> str | None:
        """The recorded path below the root; None for other files."""
        if isinstance(path, int):
            path = Path(f"/proc/self/fd/{path}").readlink()
        text = os.fspath(path)
        if text == str(self._root):
            return ""
        if not text.startswith(f"{self._root}/") or text.endswith(" (deleted)"):
            return None
        below = text[len(str(self._root)) + 1 :]
        return None if below.startswith(_NOT_OURS) else below

    def _number(self, path: str) -> int:
        """The file's number; a file made by a library is recorded at this point."""
        number = self._numbers.get(path)
        if number is None:
            number = self._numbers[path] = self._next
            self._next += 1
            self._sizes[number] = 0
            self.operations.append(Create(path, number))
        return number

    @contextlib.contextmanager
    def recording(self) -> Iterator[RecordedDisk]:
        functions: dict[str, Any] = {
            name: self._wrapped(name) for name in ("mkdir", "unlink", "rmdir", "fsync", "fdatasync", "pwritev")
        }
        real_os_open, real_open, real_change = os.open, io.open, Catalog.change

        def os_open(path: Any, flags: int, *rest: Any, **named: Any) -> int:
            with self._lock:
                descriptor = real_os_open(path, flags, *rest, **named)
                if flags & os.O_CREAT and (below := self._relative(path)):
                    self._number(below)
                return descriptor

        def opened(path: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            with self._lock:
                file = real_open(path, mode, *rest, **named)
                if not isinstance(path, int) and mode != "rb" and (below := self._relative(path)):
                    self._number(below)
                return file

        def change(catalog: Catalog, work: Any) -> Any:
            with self._lock:
                following = real_change(catalog, work)
                self.operations.append(Commit(image_of(catalog)))
                return following

        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.multiple(os, open=os_open, **functions))
            stack.enter_context(mock.patch.object(io, "open", opened))
            stack.enter_context(mock.patch.object(builtins, "open", opened))
            stack.enter_context(mock.patch.object(Catalog, "change", change))
            yield self

    def _wrapped(self, name: str) -> Callable[..., Any]:
        real = getattr(os, name)
        record = getattr(self, f"_on_{name}")

        def call(target: Any, *rest: Any, **named: Any) -> Any:
            with self._lock:
                below = self._relative(target)
                if below is None:
                    return real(target, *rest, **named)
                if name.endswith("sync"):
                    record(below)  # what reached the disk before a crash in the middle of the call
                result = real(target, *rest, **named)
                if not name.endswith("sync"):
                    record(below, result, *rest)
                return result

        return call

    def _on_mkdir(self, path: str, _result: Any, *_rest: Any) -> None:
        self.operations.append(MakeDirectory(path))

    def _on_unlink(self, path: str, _result: Any, *_rest: Any) -> None:
        number = self._numbers.pop(path, None)
        if number is None:  # written by a library and never opened by us, so its name is not recorded yet
            return
        self.operations.append(Remove(path))

    def _on_rmdir(self, path: str, _result: Any, *_rest: Any) -> None:
        self.operations.append(Remove(path))

    def _on_pwritev(self, path: str, written: int, buffers: Any, offset: int) -> None:
        number = self._number(path)
        data = b"".join(bytes(b) for b in buffers)[:written]
        self.operations.append(Write(number, offset, data))
        self._sizes[number] = max(self._sizes[number], offset + written)

    def _on_fsync(self, path: str) -> None:
        """Reads back bytes that were not written by `pwritev`; before their sync any of them may be lost anyway."""
        whole = self._root / path
        if whole.is_dir():
            self.operations.append(SyncDirectory(path))
            return
        number = self._number(path)
        size = whole.stat().st_size
        if size != self._sizes[number]:
            self.operations.append(Write(number, 0, whole.read_bytes()))
            self._sizes[number] = size
        self.operations.append(Sync(number))

    _on_fdatasync = _on_fsync


def image_of(catalog: Catalog) -> bytes:
    """The committed database, in one file."""
    connection = catalog._database.engine.raw_connection()
    try:
        driver: Any = connection.driver_connection
        image: bytes = driver.serialize()
        return image
    finally:
        connection.close()
