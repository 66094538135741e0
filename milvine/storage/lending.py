"""Objects that a program elsewhere reads and writes for a store: inputs by their names, results under a prefix."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from milvine.errors import IoFailed, write_failure
from milvine.storage.directories import make_directory, sync_directory
from milvine.storage.files import verify_sealed
from milvine.storage.objects import ObjectMissing, Objects

PREFIX = "tasks/"


@dataclass(frozen=True)
class Lent:
    """`names`: objects with the contents of files, by the paths of these below the data directory. `prefix`: what is
    written is below it."""

    prefix: str
    names: Mapping[str, str]


class Lending:
    """The objects of running tasks. What others have left is removed by sweeps."""

    def __init__(self, root: Path, objects: Objects) -> None:
        self._root = root
        self._objects = objects
        self._lock = threading.Lock()
        self._running: set[str] = set()

    @contextlib.contextmanager
    def lent(self, files: Mapping[Path, bool]) -> Iterator[Lent]:
        """For one task; `files`: whether there is an object of each. Its objects are removed after the block."""
        prefix = f"{PREFIX}{uuid.uuid4().hex}/"
        with self._lock:
            self._running.add(prefix)
        try:
            names = {}
            for path, is_stored in files.items():
                relative = path.relative_to(self._root).as_posix()
                names[relative] = relative if is_stored else prefix + relative
                if not is_stored:
                    self._objects.upload(names[relative], path)
            yield Lent(prefix, names)
        finally:
            with contextlib.suppress(IoFailed):
                self._objects.remove(self._objects.sizes(prefix))
            with self._lock:
                self._running.discard(prefix)

    def take(self, lent: Lent, made: Sequence[str], parts: Path) -> None:
        """Brings what was written into its places in the data directory, verified and durable. `parts`: a directory
        for unfinished files. Raises IoFailed, DataIntegrityError."""
        paths = [self._root / name for name in made]
        for name, path in zip(made, paths, strict=True):
            part = parts / name.replace("/", "-")
            try:
                self._objects.download(lent.prefix + name, part, lambda: None)
                verify_sealed(part)
                make_directory(path.parent)
                part.rename(path)
            except ObjectMissing:
                raise IoFailed(f"{self._objects.uri}/{lent.prefix}{name} is gone") from None
            except OSError as error:
                raise write_failure(path, error) from error
            finally:
                part.unlink(missing_ok=True)
        for directory in {path.parent for path in paths}:
            sync_directory(directory)

    def leftovers(self) -> dict[str, int]:
        """Objects of no running task, with their sizes."""
        found = self._objects.sizes(PREFIX)
        with self._lock:
            return {name: size for name, size in found.items() if not name.startswith(tuple(self._running))}
