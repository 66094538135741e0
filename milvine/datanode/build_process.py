"""A child process that builds one index: files in, files out. `python -m milvine.datanode.build_process JSON`.

A build here cannot starve searches (it is niced), leave memory behind or take the server down. It ends with its
parent: a build whose result nobody commits is garbage.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import orjson

from milvine.index import dense
from milvine.model.types import DataType, MetricType
from milvine.storage.files import seal_written
from milvine.storage.segment_files import FORMAT_VERSION, INDEX_KIND, open_column

_NICE = 10


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def build(order: dict[str, Any]) -> None:
    """`order`: column, output (paths), build_type, build_params, metric_type, threads, parent (process id)."""
    threading.Thread(target=_end_with_parent, args=(order["parent"],), daemon=True).start()
    column, _ = open_column(Path(order["column"]), DataType.FLOAT_VECTOR, resident=True)
    metric = MetricType(order["metric_type"])
    index = dense.build(column.values, order["build_type"], order["build_params"], metric, order["threads"])
    output = Path(order["output"])
    dense.save(index, output)
    seal_written(output, INDEX_KIND, FORMAT_VERSION)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))  # the server's are blocked
    os.nice(_NICE)
    build(orjson.loads(sys.argv[1]))
