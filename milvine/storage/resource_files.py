"""Our copies of file resources: sealed files in the data directory, which never change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from milvine.errors import AnalyzerInvalid, DataIntegrityError
from milvine.model.file_resources import FileResource
from milvine.storage.directories import make_directory, sync_directory
from milvine.storage.files import open_sealed, save_sealed
from milvine.storage.objects import Objects

_KIND, _VERSION = "resource", 1
_PREFIX = "file_resources"
Find = Callable[[str], FileResource | None]


def resource_directory(root: Path) -> Path:
    return root / "file_resources"


def resource_file(root: Path, resource_id: int) -> Path:
    return resource_directory(root) / f"{resource_id}.words"


def read_resource(root: Path, resource: FileResource) -> bytes:
    """The content, after its size and its checksum were verified. Raises DataIntegrityError naming the file."""
    path = resource_file(root, resource.resource_id)
    if path.is_file() and (size := path.stat().st_size) != resource.file_bytes:
        raise DataIntegrityError(f"{path} has {size} bytes, not {resource.file_bytes}")
    return bytes(open_sealed(path, _KIND, _VERSION, resident=True).payload)


class ResourceFiles:
    """The copies below a data directory. `find` knows the resources by name."""

    def __init__(self, root: Path, find: Find) -> None:
        self._root = root
        self.find = find

    def save(self, resource_id: int, content: bytes) -> int:
        """Writes and fsyncs a copy; returns the file's size in bytes. Raises DiskLimitExceeded."""
        directory = resource_directory(self._root)
        make_directory(directory)
        size = save_sealed(resource_file(self._root, resource_id), _KIND, _VERSION, [content])
        sync_directory(directory)
        return size

    def content(self, resource: FileResource) -> bytes:
        """Raises AnalyzerInvalid if the resource was removed meanwhile, DataIntegrityError naming a damaged file."""
        try:
            return read_resource(self._root, resource)
        except DataIntegrityError:
            if self.find(resource.name) != resource:
                raise AnalyzerInvalid(f"file resource {resource.name} was removed") from None
            raise

    def remove(self, resource_id: int) -> None:
        resource_file(self._root, resource_id).unlink(missing_ok=True)


class SharedResourceFiles(ResourceFiles):
    """Copies that are objects, too, since servers with other directories take over."""

    def __init__(self, root: Path, find: Find, objects: Objects) -> None:
        super().__init__(root, find)
        self._objects = objects

    def bring(self, resources: Iterable[FileResource]) -> None:
        """Fetches the copies that this directory lacks, and stores those that the store lacks. Raises IoFailed."""
        stored = set(self._objects.sizes(_PREFIX))
        make_directory(resource_directory(self._root))
        for resource in resources:
            path, name = resource_file(self._root, resource.resource_id), _object_name(resource.resource_id)
            if not path.is_file() and name in stored:
                part = path.with_suffix(".part")
                self._objects.download(name, part, lambda: None)
                part.rename(path)
            elif path.is_file() and name not in stored:
                self._objects.upload(name, path)
        sync_directory(resource_directory(self._root))

    def save(self, resource_id: int, content: bytes) -> int:
        """Also raises IoFailed."""
        size = super().save(resource_id, content)
        self._objects.upload(_object_name(resource_id), resource_file(self._root, resource_id))
        return size

    def remove(self, resource_id: int) -> None:
        super().remove(resource_id)
        self._objects.remove([_object_name(resource_id)])


def _object_name(resource_id: int) -> str:
    return f"{_PREFIX}/{resource_id}.words"
