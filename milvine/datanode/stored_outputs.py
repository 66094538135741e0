"""Makes the outputs of functions that were added after a sealed segment was written, from its stored inputs.

Merges make them, too, for sources that lack them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from milvine.analysis import dictionaries
from milvine.analysis.outputs import input_fields, output_column
from milvine.crash_points import crash_point
from milvine.model.columns import Column, absent_column
from milvine.model.file_resources import FileResource
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.segments import SegmentMeta
from milvine.storage.directories import sync_directory
from milvine.storage.resource_files import ResourceFiles
from milvine.storage.segment_files import SegmentPaths, open_column, save_column


@dataclass(frozen=True)
class FillOrder:
    """A segment and the fields that it lacks. `resources`: those that the schema's analyzers name, by name."""

    paths: SegmentPaths
    schema: CollectionSchema
    meta: SegmentMeta
    fields: tuple[FieldSchema, ...]
    resources: Mapping[str, FileResource]

    @property
    def input_bytes(self) -> int:
        return sum(self.meta.field_bytes.values())

    def elsewhere(self, paths: SegmentPaths) -> FillOrder | None:
        return None

    def inputs(self) -> list[Path]:
        """The files that are read."""
        ids = {i.field_id for f in self.fields for i in input_fields(self.schema, f)} & self.meta.field_bytes.keys()
        return [self.paths.column(self.meta.collection_id, self.meta.segment_id, i) for i in sorted(ids)]

    def outputs(self) -> list[Path]:
        """The files that are written."""
        where = self.meta.collection_id, self.meta.segment_id
        return [self.paths.column(*where, f.field_id) for f in self.fields]


def fill(order: FillOrder) -> dict[int, int]:
    """Writes and syncs the columns; returns their sizes by field."""
    sizes: dict[int, int] = {}
    for field, path in zip(order.fields, order.outputs(), strict=True):
        path.unlink(missing_ok=True)  # of an earlier attempt
        sizes[field.field_id] = save_column(path, made_column(order.paths, order.schema, order.meta, field))
        crash_point("fill.column_written")
    sync_directory(order.paths.segment(order.meta.collection_id, order.meta.segment_id))
    crash_point("fill.child_done")
    return sizes


def fill_in_child(order: FillOrder) -> dict[int, int]:
    read_resources(order.paths, order.resources)
    return fill(order)


def read_resources(paths: SegmentPaths, resources: Mapping[str, FileResource]) -> None:
    """From now on the analyzers of this process read these."""
    dictionaries.install(ResourceFiles(paths.root, resources.get))


def made_column(paths: SegmentPaths, schema: CollectionSchema, meta: SegmentMeta, field: FieldSchema) -> Column:
    """The values of a field of a segment, made from its stored inputs."""
    inputs: dict[int, Column] = {}
    for one in input_fields(schema, field):
        if one.field_id in meta.field_bytes:
            path = paths.column(meta.collection_id, meta.segment_id, one.field_id)
            inputs[one.field_id], _ = open_column(path, one.data_type, resident=True)
        else:
            inputs[one.field_id] = absent_column(one, meta.row_count)
    return output_column(schema, field, inputs)
