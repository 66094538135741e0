"""The reported state of index builds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from milvine import server
from milvine.config import load_settings
from milvine.datanode.index_build import IndexProgress
from milvine.model.segments import SegmentIndexMeta, SegmentMeta

COLLECTION, INDEX = 1, 5


def test_failed_builds_are_reported_until_the_segment_has_the_index(tmp_path: Path) -> None:
    engine = server.build_engine(load_settings({"data_dir": str(tmp_path)}, {}, None))
    builder = engine.datanode.indexes
    built = SegmentMeta(10, COLLECTION, 7, 100, 10, 15, 100, {}, {INDEX: SegmentIndexMeta(INDEX, "5.index", 10)})
    bare = replace(built, segment_id=11, indexes={})

    def progress(*metas: SegmentMeta) -> IndexProgress:
        engine.catalog.change(lambda _connection, snapshot: replace(snapshot, segments={COLLECTION: metas}))
        return builder.progress(COLLECTION, INDEX)

    def fail() -> None:
        for meta in (built, bare):
            builder._builds.failed([(meta.segment_id, INDEX)], "a build", OSError(f"segment {meta.segment_id}"))

    fail()
    assert progress(built, bare) == IndexProgress(200, 100, ""), "a first failure may be an accident"
    fail()
    assert progress(built, bare) == IndexProgress(200, 100, "segment 11")
    assert progress(built) == IndexProgress(100, 100, "")
