"""What a child process needs to know to build one index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from milvine.model.file_resources import FileResource
from milvine.model.schema import IndexSpec
from milvine.model.segments import SegmentMeta
from milvine.model.types import DataType
from milvine.storage.segment_files import SegmentPaths


@dataclass(frozen=True)
class BuildOrder:
    """`resources`: those that the analyzer of the index names, by name. `progress`: the descriptor of a pipe that gets
    the numbers of added rows, or None."""

    paths: SegmentPaths
    meta: SegmentMeta
    index: IndexSpec
    data_type: DataType
    resources: Mapping[str, FileResource]
    progress: int | None = None

    @property
    def column(self) -> Path:
        return self.paths.column(self.meta.collection_id, self.meta.segment_id, self.index.field_id)

    @property
    def output(self) -> Path:
        return self.paths.index(self.meta.collection_id, self.meta.segment_id, f"{self.index.index_id}.index")

    def inputs(self) -> list[Path]:
        return [self.column]

    @property
    def input_bytes(self) -> int:
        return self.meta.field_bytes[self.index.field_id]

    def elsewhere(self, paths: SegmentPaths) -> BuildOrder | None:
        return None if self.resources else replace(self, paths=paths, progress=None)
