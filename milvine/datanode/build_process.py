"""Builds one index from a segment's column; runs in a child process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from milvine.crash_points import crash_point
from milvine.index import dense
from milvine.model.types import DataType, MetricType
from milvine.storage.files import seal_written
from milvine.storage.segment_files import FORMAT_VERSION, INDEX_KIND, open_column


def build(order: dict[str, Any]) -> None:
    """`order`: column, output (paths), build_type, build_params, metric_type, threads."""
    column, _ = open_column(Path(order["column"]), DataType.FLOAT_VECTOR, resident=True)
    metric = MetricType(order["metric_type"])
    index = dense.build(column.values, order["build_type"], order["build_params"], metric, order["threads"])
    output = Path(order["output"])
    dense.save(index, output)
    crash_point("build.index_written")
    seal_written(output, INDEX_KIND, FORMAT_VERSION)
    crash_point("build.child_done")
