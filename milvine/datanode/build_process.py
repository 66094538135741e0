"""Builds one index from a segment's column; runs in a child process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from milvine.crash_points import crash_point
from milvine.index import dense, params
from milvine.model.types import DataType, MetricType
from milvine.storage.files import seal_written
from milvine.storage.segment_files import FORMAT_VERSION, INDEX_KIND, open_column


def build(order: dict[str, Any]) -> None:
    """`order`: column, output (paths), data_type, build_type, build_params, metric_type, threads.

    NULLs are left out. No file is written if too few rows have a vector.
    """
    data_type, metric = DataType(order["data_type"]), MetricType(order["metric_type"])
    column, _ = open_column(Path(order["column"]), data_type, resident=True)
    vectors = column.values if column.validity is None else column.values[column.validity]
    if len(vectors) < params.MIN_INDEXED_ROWS:
        return
    index = dense.build(vectors, order["build_type"], order["build_params"], metric, order["threads"], data_type)
    output = Path(order["output"])
    dense.save(index, output)
    crash_point("build.index_written")
    seal_written(output, INDEX_KIND, FORMAT_VERSION)
    crash_point("build.child_done")
