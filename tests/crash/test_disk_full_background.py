"""A disk that is full during a build or a merge: nothing is lost, and room is enough to recover."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from directory_check import damages
from pymilvus import DataType
from test_disk_full import DIM, fill_disk, rows, small_disk

__all__ = ["small_disk"]
WAIT_SECONDS = 90.0
LAZY, EAGER = ({"MILVINE_SEGMENT_MERGE_IDLE_SECONDS": seconds} for seconds in ("600", "1"))


def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


def files_below(data_dir: Path) -> set[Path]:
    return {p for p in (data_dir / "segments").rglob("*") if p.is_file()}


@pytest.mark.usefixtures("small_disk")
def test_builds_and_merges_wait_for_room_and_leave_no_files_meanwhile(
    small_disk: Path,
    new_server: Callable[..., Any],
) -> None:
    server = new_server(data_dir=small_disk / "data", env=LAZY)
    client = server.client()
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection("c", schema=schema)
    for first in (0, 4000):
        client.insert("c", rows(first, 4000))
        client.flush("c")
    sealed = files_below(server.data_dir)
    ballast = fill_disk(small_disk, 600_000)
    indexes = client.prepare_index_params()
    indexes.add_index("vec", index_type="HNSW", metric_type="L2", params={"M": 16, "efConstruction": 64})
    client.create_index("c", indexes, sync=False)
    until(lambda: client.describe_index("c", "vec")["state"] == "Failed", "the build fails again and again")
    until(lambda: files_below(server.data_dir) == sealed, "a build that fails leaves nothing")
    client.load_collection("c")

    def count() -> int:
        return int(client.query("c", filter="", output_fields=["count(*)"])[0]["count(*)"])

    assert count() == 8000
    assert client.search("c", [rows(4000, 1)[0]["vec"]], limit=1, search_params={"ef": 512})[0][0]["id"] == 4000
    ballast.unlink()
    until(lambda: client.describe_index("c", "vec")["indexed_rows"] == 8000, "the builds succeed")
    assert client.describe_index("c", "vec")["state"] == "Finished"
    client.close()
    server.kill()

    indexed = files_below(server.data_dir)
    ballast = fill_disk(small_disk, 1_200_000)
    server = new_server(data_dir=small_disk / "data", env=EAGER)
    client = server.client()
    until(lambda: server.log.count("No space left on device") >= 2, "the merge fails again and again")
    until(lambda: client.get_load_state("c")["state"].name == "Loaded", "loaded again")
    assert count() == 8000
    assert client.search("c", [rows(4000, 1)[0]["vec"]], limit=1, search_params={"ef": 512})[0][0]["id"] == 4000
    until(lambda: files_below(server.data_dir) == indexed, "a merge that fails leaves nothing")
    ballast.unlink()
    until(lambda: len(client.list_persistent_segments("c")) == 1, "the merge succeeds")
    assert count() == 8000
    until(lambda: client.describe_index("c", "vec")["indexed_rows"] == 8000, "the merged segment is indexed")
    client.close()
    server.kill()
    assert damages(server.data_dir) == []
