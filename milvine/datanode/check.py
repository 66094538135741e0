"""Reads every byte of a data directory, of a stopped server or of a running one, or of a store. Changes nothing.

It uses the readers of recovery and loading: the catalog by SQLite's own check, sealed files by checksum, structure and
the sizes and counts that the catalog knows, logs record by record. It also reports rows that are in
two segments, or in a segment and the log after its checkpoint.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.catalog.contents import Snapshot
from milvine.catalog.opening import read_catalog_of
from milvine.catalog.sqlite_file import CATALOG_FILE, read_catalog
from milvine.datanode.catalog_files import files_of, imported, named_files, named_resources
from milvine.datanode.recovery import Replay
from milvine.errors import DataIntegrityError, write_failure
from milvine.model.collections import Collection
from milvine.model.records import record
from milvine.model.segments import SegmentMeta
from milvine.segment.keys import KeyIndex
from milvine.storage.claims import OWNER
from milvine.storage.files import verify_sealed, walk_files
from milvine.storage.log_objects import LAST_EPOCH, PREFIX, LogStore, listed, place_of_name, records_of, unpacked
from milvine.storage.logs import is_in_store
from milvine.storage.object_log_reader import ObjectLogReader
from milvine.storage.objects import ObjectMissing, Objects
from milvine.storage.resource_files import read_resource, resource_directory, resource_file
from milvine.storage.segment_files import (
    ROWS_FILE,
    RowsFile,
    SegmentPaths,
    open_column,
    open_delta,
    open_rows,
    open_scalar_index,
)
from milvine.storage.segment_files import open_index_file as open_index
from milvine.storage.wal import WalReader, wal_path

_SEALED_SUFFIXES = (".seg", ".col", ".index", ".delta", ".words")


@record
class Finding:
    """`is_damage`: data is lost or wrong. Otherwise a leftover of a crash, which the next start removes."""

    text: str
    is_damage: bool = True


class Check:
    """One pass over a data directory. Counts what it has read."""

    def __init__(self, root: Path, objects: Objects | None = None, held: Path | None = None) -> None:
        """`objects`: where the segment files are, if not in the directory alone. `held`: the image that a running
        server holds, as for a backup: its catalog is read, and logs and leftovers, which change, are left out."""
        self._paths = SegmentPaths(root)
        self._root = root
        self._held = held
        self._objects = objects
        self._sizes = {} if objects is None else objects.sizes()
        self._logs = None if objects is None else LogStore(objects, LAST_EPOCH)
        self._log_sizes = {} if objects is None or held is not None else listed(objects)
        self.files = 0
        self.rows = 0
        self.collections = 0

    def findings(self) -> Iterator[Finding]:
        """The findings, file by file; none if the directory is whole."""
        try:
            snapshot = read_catalog_of(self._root) if self._held is None else read_catalog(self._held / CATALOG_FILE)
        except DataIntegrityError as error:
            yield Finding(error.message)
            yield from self._all_sealed_files()
            return
        self.files += 1
        for collection in snapshot.collections.values():
            self.collections += 1
            found: list[tuple[SegmentMeta, RowsFile]] = []
            yield from self._segments_and_deltas(collection, snapshot, found)
            if self._held is None:
                yield from self._log(collection, found)
        yield from self._snapshots(snapshot)
        for resource in snapshot.file_resources.values():
            if self._held is None:
                yield from self._reading(partial(read_resource, self._root, resource))
            else:
                path = self._held / resource_file(self._root, resource.resource_id).name
                yield from self._reading(partial(verify_sealed, path))
        if self._held is None:
            yield from self._leftovers(snapshot)

    def _reading(self, read: Callable[[], object]) -> Iterator[Finding]:
        self.files += 1
        try:
            read()
        except DataIntegrityError as error:
            yield Finding(error.message)
        except OSError as error:
            yield Finding(f"{error.filename or ''} cannot be read: {error.strerror}")

    def _named(self, path: Path, size: int, read: Callable[[], object]) -> Iterator[Finding]:
        """A file that the catalog names: by `read` if it is local, and its object."""
        if self._objects is not None:
            yield from self._object(self._objects, path, size)
        if self._objects is None or path.exists():
            for finding in self._reading(read):
                # A running server may have evicted the copy meanwhile.
                if self._objects is None or path.exists():
                    yield finding
                else:
                    yield from damage_of(self._objects, self._name(path))

    def _name(self, path: Path) -> str:
        """Of a file's object."""
        return path.relative_to(self._root).as_posix()

    def _object(self, objects: Objects, path: Path, size: int) -> Iterator[Finding]:
        """An object by its size and, without a local copy, by its checksum."""
        name = self._name(path)
        stored = self._sizes.get(name)
        if stored is None:
            yield Finding(f"{objects.uri}/{name} is missing")
        elif stored != size:
            yield Finding(f"{objects.uri}/{name} has {stored} bytes, not {size}")
        elif not path.exists():
            self.files += 1
            yield from damage_of(objects, name)

    def _all_sealed_files(self) -> Iterator[Finding]:
        """Without a catalog, files can still be verified by their own checksums."""
        for path in sorted([*walk_files(self._root / "segments"), *walk_files(resource_directory(self._root))]):
            if path.suffix in _SEALED_SUFFIXES:
                yield from self._reading(lambda path=path: verify_sealed(path))  # type: ignore[misc]

    def _segments_and_deltas(
        self, collection: Collection, snapshot: Snapshot, found: list[tuple[SegmentMeta, RowsFile]]
    ) -> Iterator[Finding]:
        """Adds the rows files that could be read to `found`."""
        partition_ids = {p.partition_id for p in collection.partitions}
        for partition_id in sorted((collection.load.partition_ids if collection.load else set()) - partition_ids):
            yield Finding(f"collection {collection.name} is to load partition {partition_id}, which it does not have")
        for meta in snapshot.segments.get(collection.collection_id, ()):
            if meta.partition_id not in partition_ids:
                yield Finding(
                    f"segment {meta.segment_id} of collection {collection.name} is of partition "
                    f"{meta.partition_id}, which it does not have"
                )
            self.rows += meta.row_count
            yield from self._segment(collection, meta, found)
        yield from _double_rows(collection, found)
        for meta in imported(snapshot, collection.collection_id):
            yield from self._segment(collection, meta, [])
        for delta in snapshot.deltas.get(collection.collection_id, ()):
            path = self._paths.delta(delta.collection_id, delta.delta_id)

            def read(path: Path = path, size: int = delta.file_bytes, rows: int = delta.row_count) -> None:
                check_size(path, size)
                _check_rows(path, len(open_delta(path)), rows)

            yield from self._named(path, delta.file_bytes, read)

    def _segment(
        self, collection: Collection, meta: SegmentMeta, found: list[tuple[SegmentMeta, RowsFile]]
    ) -> Iterator[Finding]:
        where = (meta.collection_id, meta.segment_id)
        rows_path = self._paths.segment(*where) / ROWS_FILE

        def read_rows() -> None:
            check_size(rows_path, meta.rows_bytes)
            rows, _ = open_rows(rows_path, resident=True)
            _check_rows(rows_path, len(rows.insert_ts), meta.row_count)
            found.append((meta, rows))

        def read_column(path: Path, field_id: int, size: int) -> None:
            check_size(path, size)
            field = collection.schema.by_id.get(field_id)
            if field is None:  # the field is gone
                verify_sealed(path)
                return
            column, _ = open_column(path, field.data_type, resident=True)
            _check_rows(path, len(column), meta.row_count)

        scalar_ids = {i.index_id for i in collection.scalar_indexes}

        def read_index(path: Path, index_id: int, size: int) -> None:
            check_size(path, size)
            if index_id in scalar_ids:
                open_scalar_index(path, resident=True)
            else:
                open_index(path, resident=True)

        yield from self._named(rows_path, meta.rows_bytes, read_rows)
        for field_id, size in meta.field_bytes.items():
            path = self._paths.column(*where, field_id)
            yield from self._named(path, size, partial(read_column, path, field_id, size))
        for built in meta.indexes.values():
            if built.file_name:
                path, size = self._paths.index(*where, built.file_name), built.file_bytes
                yield from self._named(path, size, partial(read_index, path, built.index_id, size))

    def _snapshots(self, snapshot: Snapshot) -> Iterator[Finding]:
        """The files that only snapshots name, by their checksums."""
        seen: dict[Path, int] = {}
        for metas in snapshot.segments.values():
            seen |= files_of(self._paths, metas, ())
        for deltas in snapshot.deltas.values():
            seen |= files_of(self._paths, (), deltas)
        for kept in snapshot.snapshots.values():
            files = files_of(self._paths, kept.segments, kept.deltas)
            for path in sorted(files.keys() - seen.keys()):

                def read(path: Path = path, size: int = files[path]) -> None:
                    check_size(path, size)
                    verify_sealed(path)

                yield from self._named(path, files[path], read)
            seen |= files

    def _log(self, collection: Collection, sealed: list[tuple[SegmentMeta, RowsFile]]) -> Iterator[Finding]:
        collection_id = collection.collection_id
        reader = self._log_reader(collection)
        if reader is None:
            yield Finding(f"the log of collection {collection.name} is in an object store that is not known")
            return
        sealed_ts = np.unique(np.concatenate([np.zeros(0, np.int64), *(np.unique(r.insert_ts) for _, r in sealed)]))
        replay = Replay(collection)
        twice: list[int] = []

        def read() -> None:
            for written in reader.records():
                inserted, _ = replay.read(written)
                self.rows += sum(batch.row_count for _, batch in inserted)
                if inserted and np.isin(written.ts, sealed_ts).item():
                    twice.append(written.ts)

        yield from self._reading(read)
        if twice:
            yield Finding(f"{reader.shown} holds rows of timestamp {twice[0]} that a sealed segment holds, too")
        if isinstance(reader, WalReader) and reader.unread_bytes:
            path = wal_path(self._paths.wal(collection_id), reader.last_file)
            yield Finding(f"{path} ends in {reader.unread_bytes} bytes that were never acknowledged", is_damage=False)

    def _log_reader(self, collection: Collection) -> WalReader | ObjectLogReader | None:
        where = (collection.collection_id, collection.checkpoint_file)
        if not is_in_store(collection.checkpoint_file):
            return WalReader(self._paths.wal(collection.collection_id), *where)
        if self._logs is None:
            return None
        return ObjectLogReader(self._logs, *where, dict(self._log_sizes.get(collection.collection_id, {})))

    def _leftovers(self, snapshot: Snapshot) -> Iterator[Finding]:
        named = named_files(self._paths, snapshot)
        unnamed = [path for path in walk_files(self._root / "segments") if path not in named]
        resources = named_resources(self._paths, snapshot)
        unnamed += [path for path in walk_files(resource_directory(self._root)) if path not in resources]
        for path in walk_files(self._root / "wal"):
            collection = snapshot.collections.get(int(path.parent.name) if path.parent.name.isdigit() else 0)
            if collection is None or not path.stem.isdigit() or int(path.stem) < collection.checkpoint_file:
                unnamed.append(path)
        if self._objects is not None:
            wanted = {path.relative_to(self._root).as_posix() for path in named}
            # Objects before a checkpoint are no leftovers: they are kept for a while.
            logs = {f"{PREFIX}{i}" for i in self._log_sizes.keys() - snapshot.collections.keys()}
            # Each merge leaves some for ten minutes, so that a whole store may have hundreds.
            if left := sorted((self._sizes.keys() - wanted) | logs):
                more = f" and {len(left) - 1} more are left over, and each" if len(left) > 1 else " is left over and"
                text = f"{self._objects.uri}/{left[0]}{more} goes after a while"
                yield Finding(text, is_damage=False)
        for path in sorted(unnamed):
            yield Finding(f"{path} is left over and goes at the next start", is_damage=False)


class ObjectCheck:
    """One pass over the objects of a store. Without a catalog nothing says which of them are missing."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.files = self.collections = self.rows = 0

    def findings(self) -> Iterator[Finding]:
        if self._objects.content(OWNER) is None:
            yield Finding(f"{self._objects.uri} belongs to no data directory: it has no {OWNER}")
        for name in sorted(self._objects.sizes()):
            self.files += 1
            yield from damage_of(self._objects, name)
        for name in sorted(self._objects.sizes(PREFIX)):
            self.files += 1
            yield from damage_of_log(self._objects, name)


def damage_of_log(objects: Objects, name: str) -> Iterator[Finding]:
    """Whether an object of a log is whole."""
    place, content = place_of_name(name), objects.content(name)
    if place is not None and content is not None:
        shown = f"{objects.uri}/{name}"
        try:
            for _ in records_of(shown, unpacked(shown, content, *place)):
                pass
        except DataIntegrityError as error:
            yield Finding(error.message)


def damage_of(objects: Objects, name: str) -> Iterator[Finding]:
    """Whether a sealed object has another checksum than it says, or is gone."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / Path(name).name
        try:
            objects.download(name, copy, lambda: None)
            verify_sealed(copy)
        except ObjectMissing:
            yield Finding(f"{objects.uri}/{name} is missing")
        except DataIntegrityError as error:
            yield Finding(error.message.replace(str(copy), f"{objects.uri}/{name}"))
        except OSError as error:
            raise write_failure(copy, error) from error


def check_size(path: Path, expected: int) -> None:
    if path.is_file() and (size := path.stat().st_size) != expected:
        raise DataIntegrityError(f"{path} has {size} bytes, not {expected}")


def _check_rows(path: Path, rows: int, expected: int) -> None:
    if rows != expected:
        raise DataIntegrityError(f"{path} has {rows} rows, not {expected}")


def _double_rows(collection: Collection, found: list[tuple[SegmentMeta, RowsFile]]) -> Iterator[Finding]:
    """Segments that share a key with the same timestamp. One insert may hold a key twice, but only in one segment."""
    for number, (meta, rows) in enumerate(found):
        for other, other_rows in found[number + 1 :]:
            if meta.max_ts < other.min_ts or other.max_ts < meta.min_ts:
                continue
            mine, places = KeyIndex(rows.sorted_keys, rows.order).find(other_rows.sorted_keys)
            same = rows.insert_ts[mine] == other_rows.insert_ts[other_rows.order][places]
            if same.any():
                key: Any = other_rows.sorted_keys[int(places[np.argmax(same)])]
                shown = key.as_py() if isinstance(key, pa.Scalar) else int(key)
                yield Finding(
                    f"segments {meta.segment_id} and {other.segment_id} of collection {collection.name} both hold "
                    f"{int(np.count_nonzero(same))} rows, such as key {shown!r}"
                )
