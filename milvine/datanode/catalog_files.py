"""The files that the catalog names, for its collections and for their snapshots, and the removal of the others.

Whatever leaves a collection is removed here, and only here: what a snapshot names stays. Callers have committed the
change, so of two that let go of a file, the later one finds that nothing names it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from milvine.catalog.contents import Snapshot
from milvine.model.segments import DeltaMeta, SegmentMeta
from milvine.model.snapshots import CollectionSnapshot
from milvine.storage.directories import entry_names
from milvine.storage.files import remove_tree
from milvine.storage.garbage import remove_unnamed
from milvine.storage.resource_files import resource_directory, resource_file
from milvine.storage.segment_files import BACKUPS, ROWS_FILE, SegmentPaths

_Parts = tuple[Sequence[SegmentMeta], Sequence[DeltaMeta]]


def _segment_files(meta: SegmentMeta, paths: SegmentPaths) -> dict[str, int]:
    """Names and sizes."""
    columns = {paths.column(0, 0, i).name: size for i, size in meta.field_bytes.items()}
    indexes = {i.file_name: i.file_bytes for i in meta.indexes.values() if i.file_name}
    return {ROWS_FILE: meta.rows_bytes} | columns | indexes


def imported(snapshot: Snapshot, collection_id: int) -> list[SegmentMeta]:
    """Segments of imports that are not committed, so that no view has them."""
    jobs = snapshot.import_jobs.values()
    return [meta for job in jobs if job.collection_id == collection_id for meta in job.segments]


def _parts(snapshot: Snapshot, collection_id: int) -> Iterator[_Parts]:
    """The segments and deltas of a collection now, of its imports that are not committed, and in its snapshots."""
    yield imported(snapshot, collection_id), ()
    yield snapshot.segments.get(collection_id, ()), snapshot.deltas.get(collection_id, ())
    for kept in snapshot.snapshots_of(collection_id):
        yield kept.segments, kept.deltas


def _ids(snapshot: Snapshot) -> set[int]:
    return {*snapshot.collections, *(one.collection_id for one in snapshot.snapshots.values())}


def files_of(paths: SegmentPaths, metas: Iterable[SegmentMeta], deltas: Iterable[DeltaMeta]) -> dict[Path, int]:
    """Every file of these segments and deltas, with its size."""
    named: dict[Path, int] = {}
    for meta in metas:
        directory = paths.segment(meta.collection_id, meta.segment_id)
        named |= {directory / name: size for name, size in _segment_files(meta, paths).items()}
    return named | {paths.delta(d.collection_id, d.delta_id): d.file_bytes for d in deltas}


def named_files(paths: SegmentPaths, snapshot: Snapshot) -> dict[Path, int]:
    """Every file of segments and deltas that the catalog names, with its size."""
    named: dict[Path, int] = {}
    for collection_id in _ids(snapshot):
        for metas, deltas in _parts(snapshot, collection_id):
            named |= files_of(paths, metas, deltas)
    return named


def named_resources(paths: SegmentPaths, snapshot: Snapshot) -> set[Path]:
    return {resource_file(paths.root, one.resource_id) for one in snapshot.file_resources.values()}


def is_named(paths: SegmentPaths, snapshot: Snapshot, path: Path) -> bool:
    """Whether the catalog names a file, a delta or a file of a segment."""
    collection, name, *more = path.relative_to(paths.root / "segments").parts
    for metas, deltas in _parts(snapshot, int(collection)):
        if more and any(str(m.segment_id) == name for m in metas):
            return True
        if not more and any(f"{d.delta_id}.delta" == name for d in deltas):
            return True
    return False


def remove_garbage(paths: SegmentPaths, snapshot: Snapshot) -> int:
    """Removes leftovers of flushes, builds, restores and drops that a crash interrupted; returns their number."""
    removed = remove_unnamed(paths.root / "segments", {str(i) for i in _ids(snapshot)})
    removed += remove_unnamed(paths.root / BACKUPS, ())
    removed += remove_unnamed(paths.root / "wal", {str(i) for i in snapshot.collections})
    removed += remove_unnamed(resource_directory(paths.root), {p.name for p in named_resources(paths, snapshot)})
    here = set(entry_names(paths.root / "segments"))
    for collection_id in _ids(snapshot):
        if str(collection_id) not in here:
            continue
        names: dict[str, set[str]] = {}
        for metas, deltas in _parts(snapshot, collection_id):
            for meta in metas:
                names.setdefault(str(meta.segment_id), set()).update(_segment_files(meta, paths))
            names |= {paths.delta(collection_id, d.delta_id).name: set() for d in deltas}
        removed += remove_unnamed(paths.collection(collection_id), names)
        for name, files in names.items():
            if files:
                removed += remove_unnamed(paths.collection(collection_id) / name, files)
    return len(removed)


def remove_collection(paths: SegmentPaths, snapshot: Snapshot, collection_id: int) -> None:
    """Removes the files of a dropped collection that no snapshot names."""
    directory = paths.collection(collection_id)
    if not snapshot.snapshots_of(collection_id):
        remove_tree(directory)
        return
    if directory.is_dir():
        left = [path for path in directory.iterdir() if path.is_dir()]
        deltas = [path for path in directory.iterdir() if not path.is_dir()]
        remove_segments(paths, snapshot, collection_id, (int(path.name) for path in left))
        remove_files(paths, snapshot, collection_id, deltas)


def remove_segments(paths: SegmentPaths, snapshot: Snapshot, collection_id: int, segment_ids: Iterable[int]) -> None:
    """Removes segments that the collection does not have any more, whatever is in their directories."""
    kept: dict[int, set[str]] = {}
    for held in snapshot.snapshots_of(collection_id):
        for meta in held.segments:
            kept.setdefault(meta.segment_id, set()).update(_segment_files(meta, paths))
    for segment_id in segment_ids:
        directory = paths.segment(collection_id, segment_id)
        if segment_id in kept:
            remove_unnamed(directory, kept[segment_id])
        else:
            remove_tree(directory)


def remove_files(paths: SegmentPaths, snapshot: Snapshot, collection_id: int, files: Iterable[Path]) -> None:
    """Removes files that the collection does not have any more, unless a snapshot names them."""
    kept: set[Path] = set()
    for held in snapshot.snapshots_of(collection_id):
        kept.update(files_of(paths, held.segments, held.deltas))
    for path in files:
        if path not in kept:
            path.unlink(missing_ok=True)


def remove_snapshot(paths: SegmentPaths, snapshot: Snapshot, dropped: CollectionSnapshot) -> None:
    """Removes what only the dropped snapshot named. The next start removes files that cannot be removed now."""
    collection_id = dropped.collection_id
    metas, deltas = snapshot.segments.get(collection_id, ()), snapshot.deltas.get(collection_id, ())
    left = files_of(paths, dropped.segments, dropped.deltas).keys() - files_of(paths, metas, deltas).keys()
    with contextlib.suppress(OSError):
        remove_files(paths, snapshot, collection_id, left)
        gone = {m.segment_id for m in dropped.segments} - {m.segment_id for m in metas}
        remove_segments(paths, snapshot, collection_id, gone)
        if collection_id not in snapshot.collections and not snapshot.snapshots_of(collection_id):
            remove_tree(paths.collection(collection_id))
