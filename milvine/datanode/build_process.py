"""Builds one index from a segment's column; runs in a child process."""

from __future__ import annotations

import os
from functools import partial

from milvine.crash_points import crash_point
from milvine.datanode.build_order import BuildOrder
from milvine.datanode.build_progress import tell_rows
from milvine.index import adding
from milvine.index.registry import TYPES
from milvine.storage.files import seal_written
from milvine.storage.segment_files import FORMAT_VERSION, INDEX_KIND, open_column


def build(order: BuildOrder) -> None:
    """NULLs are left out. No file is written if too few rows have a vector."""
    index, data_type = order.index, order.data_type
    assert index.metric_type is not None
    column, _ = open_column(order.column, data_type, resident=True)
    vectors = column.values if column.validity is None else column.values[column.validity]
    index_type = TYPES[index.build_type]
    if not index_type.needs_build(len(vectors)):
        return
    if order.progress is not None:
        adding.tell(partial(tell_rows, order.progress))
    built = index_type.build(vectors, index.build_params, index.metric_type, data_type, os.cpu_count() or 1)
    index_type.save(built, order.output)
    crash_point("build.index_written")
    seal_written(order.output, INDEX_KIND, FORMAT_VERSION)
    crash_point("build.child_done")
