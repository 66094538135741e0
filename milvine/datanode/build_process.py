"""Builds one index from a segment's column; runs in a child process."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from milvine.crash_points import crash_point
from milvine.datanode.build_progress import tell_rows
from milvine.index import adding
from milvine.index.registry import TYPES
from milvine.model.types import DataType, MetricType
from milvine.storage.files import seal_written
from milvine.storage.segment_files import FORMAT_VERSION, INDEX_KIND, open_column


def build(order: dict[str, Any]) -> None:
    """`order`: column, output (paths), data_type, build_type, build_params, metric_type, threads; progress, the
    descriptor of a pipe that gets the numbers of added rows, or None.

    NULLs are left out. No file is written if too few rows have a vector.
    """
    data_type, metric = DataType(order["data_type"]), MetricType(order["metric_type"])
    column, _ = open_column(Path(order["column"]), data_type, resident=True)
    vectors = column.values if column.validity is None else column.values[column.validity]
    index_type = TYPES[order["build_type"]]
    if not index_type.needs_build(len(vectors)):
        return
    if order["progress"] is not None:
        adding.tell(partial(tell_rows, order["progress"]))
    built = index_type.build(vectors, order["build_params"], metric, data_type, order["threads"])
    output = Path(order["output"])
    index_type.save(built, output)
    crash_point("build.index_written")
    seal_written(output, INDEX_KIND, FORMAT_VERSION)
    crash_point("build.child_done")
