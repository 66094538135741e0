"""Opens a segment whose files may be in the object store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial

from milvine.model.properties import PartKey
from milvine.model.segments import SegmentMeta
from milvine.segment.sealed import LoadSpec, MapParts, Part, SealedSegment, open_segment, part_files
from milvine.storage.files import OnBytes, ignore_bytes
from milvine.storage.store import SegmentStore


def open_stored(
    store: SegmentStore,
    meta: SegmentMeta,
    spec: LoadSpec,
    previous: SealedSegment | None = None,
    map_parts: MapParts = map,
    on_bytes: OnBytes = ignore_bytes,
) -> SealedSegment:
    """As `open_segment`; each part waits for its own files only."""

    def map_stored(open_part: Callable[[PartKey], Part], keys: Collection[PartKey]) -> Iterable[Part]:
        def open_one(key: PartKey) -> Part:
            files = part_files(store.paths, meta, spec, key)
            return store.read(files, partial(open_part, key), partial(on_bytes, 0))

        return map_parts(open_one, keys)

    return open_segment(store.paths, meta, spec, previous, map_stored, on_bytes)
