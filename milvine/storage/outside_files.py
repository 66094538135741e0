"""Files that a server may take from outside its data directory: below one directory, or in the object store."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from milvine.errors import IoFailed, ParameterInvalid
from milvine.storage.objects import PREFIX, Objects

_FOLLOW_NONE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class OutsideFiles(Protocol):
    def read(self, path: str, most_bytes: int) -> bytes | None:
        """The content; None if there is no such file. Raises ParameterInvalid for a larger one, IoFailed."""


class FilesBelow:
    """Regular files below a directory. Links may point to other files below it, and to nothing else."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str, most_bytes: int) -> bytes | None:
        try:
            descriptor = open_below(self._root, _parts(path))
            if descriptor is None:
                return None
            with os.fdopen(descriptor, "rb") as file:
                size = os.fstat(descriptor).st_size
                content = file.read(most_bytes + 1)
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
            raise IoFailed(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
        return _bounded(content, max(len(content), size), path, most_bytes)


def open_below(root: Path, parts: Sequence[str]) -> int | None:
    """The descriptor of a regular file below `root`; None if there is none. Links may lead to other files below it.

    Opens one part after the other and follows no link, so that nothing put there since the look leads outside. Raises
    OSError, and RuntimeError for a loop of links.
    """
    try:
        root = root.resolve(strict=True)
        found = root.joinpath(*parts).resolve(strict=True)
        if not found.is_relative_to(root):
            return None
        descriptor = os.open(root, _FOLLOW_NONE | os.O_DIRECTORY)
        for part in found.relative_to(root).parts:
            try:
                following = os.open(part, _FOLLOW_NONE, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = following
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return descriptor


class FilesInStore:
    """Objects under the URI of the object store, without those of segments."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def read(self, path: str, most_bytes: int) -> bytes | None:
        name = "/".join(_parts(path))
        if f"{name}/".startswith(PREFIX):
            return None
        found = self._objects.beginning(name, most_bytes + 1)
        return None if found is None else _bounded(found[0], found[1], path, most_bytes)


def _parts(path: str) -> tuple[str, ...]:
    """Raises IoFailed, as Milvus does, unless it is a relative path that goes down only."""
    parts = PurePosixPath(path).parts
    if "\0" in path or path.startswith("/") or ".." in parts:
        raise IoFailed(f"invalid file resource path {path!r}, it must be relative and without ..")
    return parts


def _bounded(content: bytes, size: int, path: str, most_bytes: int) -> bytes:
    if size > most_bytes:
        raise ParameterInvalid(f"file {path} has {size} bytes, more than {most_bytes}")
    return content
