"""A snapshot outside of the data directory: its sealed files, and `metadata.json`, written last, which names them.

A directory of a place has one snapshot. Files have the names that they have in the collection's directory. What is read
back was written by somebody, so each file is verified by its checksum, and no name in the metadata leads elsewhere.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from milvine import __version__
from milvine.catalog.encoding import (
    decode_collection,
    decode_delta,
    decode_segment,
    encode_collection,
    encode_delta,
    encode_segment,
)
from milvine.crash_points import crash_point
from milvine.datanode.catalog_files import files_of
from milvine.errors import DataIntegrityError, MilvineError
from milvine.model.records import record
from milvine.model.segments import DeleteBatch, DeltaMeta
from milvine.model.snapshots import CollectionSnapshot
from milvine.storage.backup_places import BackupPlace
from milvine.storage.files import crc32c, stored_checksum, verify_sealed
from milvine.storage.segment_files import SegmentPaths, open_delta
from milvine.storage.store import SegmentStore

METADATA = "metadata.json"
_VERSION = 1
_INDEX_FILE = re.compile(r"[0-9]+\.index|")


@record
class Exported:
    """A snapshot in a place. `checksums`: of its files, by their names below `directory`."""

    place: BackupPlace
    directory: str
    kept: CollectionSnapshot
    checksums: dict[str, int]

    def fetch(self, source: Path, target: Path) -> None:
        """Brings a file, by its path in the directory of the collection. Raises DataIntegrityError and IoFailed."""
        name = _name(self.kept, source)
        self.place.fetch(f"{self.directory}/{name}", target)
        verify_sealed(target)
        if stored_checksum(target) != self.checksums.get(name):
            raise DataIntegrityError(f"{self.directory}/{name} is not the file of the snapshot")

    def deletes(self, paths: SegmentPaths, delta: DeltaMeta) -> DeleteBatch:
        with tempfile.TemporaryDirectory() as scratch:
            target = Path(scratch) / "deletes"
            self.fetch(paths.delta(self.kept.collection_id, delta.delta_id), target)
            return open_delta(target)


def _name(kept: CollectionSnapshot, path: Path) -> str:
    """A file's path below the directory of the collection."""
    parts = path.parts
    start = len(parts) - parts[::-1].index(str(kept.collection_id))
    return "/".join(parts[start:])


def export(
    kept: CollectionSnapshot,
    store: SegmentStore,
    place: BackupPlace,
    directory: str,
    on_file: Callable[[int], None],
) -> None:
    """Writes all files, and then the metadata. `on_file` is called with the bytes of each file, and ends the export by
    raising. Raises DataIntegrityError naming a damaged file, DiskLimitExceeded, WriteFailed and IoFailed; what was
    written is then removed, if the place lets it be."""
    checksums: dict[str, int] = {}
    try:
        for path, size in sorted(files_of(store.paths, kept.segments, kept.deltas).items()):
            name = _name(kept, path)
            with store.kept([path]):
                verify_sealed(path)
                checksums[name] = stored_checksum(path)
                place.put(f"{directory}/{name}", path)
            crash_point("snapshot_export.file_stored")
            on_file(size)
        members: dict[str, Any] = {
            "format": _VERSION,
            "milvine": __version__,
            "snapshot": {"name": kept.name, "description": kept.description, "created_ts": kept.created_ts},
            "collection": encode_collection(kept.collection),
            "segments": [encode_segment(meta) for meta in kept.segments],
            "deltas": [encode_delta(delta) for delta in kept.deltas],
            "files": checksums,
        }
        content = orjson.dumps(members)
        with place.writing(f"{directory}/{METADATA}") as file:
            file.write(orjson.dumps({"crc32c": crc32c([content]), "content": content.decode()}))
        crash_point("snapshot_export.stored")
    except BaseException:
        with contextlib.suppress(MilvineError, OSError):
            place.remove([f"{directory}/{name}" for name in (METADATA, *checksums)])
        raise


def open_exported(place: BackupPlace, name: str) -> Exported:
    """`name`: of the metadata. Raises DataIntegrityError if it is no metadata of a snapshot, IoFailed if it is not
    there."""
    try:
        found = orjson.loads(place.content(name))
        content = found["content"].encode()
        if crc32c([content]) != found["crc32c"]:
            raise DataIntegrityError(f"{name} does not match its checksum")
        members = orjson.loads(content)
        if members["format"] != _VERSION:
            raise DataIntegrityError(f"{name} has format {members['format']}, this program reads {_VERSION}")
        segments = tuple(decode_segment(one) for one in members["segments"])
        if any(not _INDEX_FILE.fullmatch(i.file_name) for meta in segments for i in meta.indexes.values()):
            raise DataIntegrityError(f"{name} names files that no snapshot has")
        collection = decode_collection(members["collection"])
        deltas = tuple(decode_delta(one) for one in members["deltas"])
        partition_ids = {one.partition_id for one in collection.partitions}
        is_whole = all(meta.partition_id in partition_ids for meta in segments)
        of_collections = {meta.collection_id for meta in segments} | {delta.collection_id for delta in deltas}
        if not is_whole or not of_collections <= {collection.collection_id}:
            raise DataIntegrityError(f"{name} describes parts of several collections")
        snapshot = members["snapshot"]
        kept = CollectionSnapshot(
            0,
            snapshot["name"],
            snapshot["description"],
            snapshot["created_ts"],
            collection,
            segments,
            deltas,
        )
        return Exported(place, name.rpartition("/")[0], kept, dict(members["files"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataIntegrityError(f"{name} is damaged: it does not describe a snapshot") from error
