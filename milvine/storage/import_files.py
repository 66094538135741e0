"""Files that an import reads: below directories of this machine, or below URIs of object stores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from milvine.errors import ImportFailed, ImportSysFailed, IoFailed
from milvine.model.records import record
from milvine.storage.objects import Objects, Place
from milvine.storage.outside_files import open_below


@record
class Found:
    """A file below one of the places: the place's directory or URI, and the path below it."""

    place: str
    path: str


@record
class ImportPlaces:
    """`places`: absolute directories and URIs; relative paths are below the first."""

    places: tuple[str, ...]
    endpoint: str = ""
    region: str = ""

    def find(self, path: str) -> Found:
        """Where a path of a request leads. Raises ImportFailed for one that is not below a place."""
        if not self.places:
            raise ImportFailed(
                "imports need a place to read files from: the setting import.path, directories or URIs of object "
                "stores, or an object store (store.uri)"
            )
        if "\0" in path or ".." in PurePosixPath(path).parts:
            raise ImportFailed(f"the path {path!r} of an import must not have ..")
        if urlsplit(path).scheme:
            return self._below(path, [one for one in self.places if _is_uri(one)])
        directories = [one for one in self.places if not _is_uri(one)]
        if path.startswith("/") and (directories or not _is_uri(self.places[0])):
            try:
                return self._below(path, directories)
            except ImportFailed:
                if not _is_uri(self.places[0]):
                    raise
        return Found(self.places[0], path.lstrip("/"))

    @staticmethod
    def _below(path: str, places: Sequence[str]) -> Found:
        for place in places:
            prefix = f"{place.rstrip('/')}/"
            if path.startswith(prefix):
                return Found(place, path.removeprefix(prefix))
        raise ImportFailed(f"the path {path!r} of an import is not below a directory or URI of the setting import.path")

    def open(self, path: str) -> tuple[Any, int]:
        """A file of bytes that can seek, and its size. Raises ImportFailed if there is none, ImportSysFailed."""
        found = self.find(path)
        try:
            if _is_uri(found.place):
                opened = Objects(Place(found.place, self.endpoint, self.region)).reader(found.path)
            else:
                opened = _open_local(Path(found.place), found.path)
        except (IoFailed, OSError, RuntimeError) as error:
            raise ImportSysFailed(f"failed to read the file '{path}', error: {_text(error)}") from error
        if opened is None:
            raise ImportFailed(f"failed to read the file '{path}', error: The specified key does not exist")
        return opened


def _is_uri(place: str) -> bool:
    return "://" in place


def _open_local(root: Path, path: str) -> tuple[Any, int] | None:
    descriptor = open_below(root, PurePosixPath(path).parts)
    if descriptor is None:
        return None
    return os.fdopen(descriptor, "rb"), os.fstat(descriptor).st_size


def _text(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
