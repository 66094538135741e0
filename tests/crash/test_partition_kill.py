"""kill -9 at every step of dropping a partition and truncating: all rows are there, or none and no file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from crash_load import check_searches, create, row_of
from directory_check import damages
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2
from test_crash_points import ended_by_itself

KEPT, GONE = "kept", "gone"
NAME = "c"
DONE = {"drop_partition.committed", "truncate.committed", "remove.published"}


def _write(client: MilvusClient, first: int) -> None:
    """Sealed and growing rows in two partitions, a delta, and deletes in the log."""
    for start in (first, first + 100):
        for offset, partition in ((0, KEPT), (1000, GONE)):
            keys = range(start + offset, start + offset + 20)
            client.insert(NAME, [row_of(k, partition) for k in keys], partition_name=partition)
            client.delete(NAME, ids=[*keys][:5], partition_name=partition)
        if start == first:
            client.flush(NAME)


def _alive(first: int) -> set[int]:
    return {k for start in (first, first + 100) for k in range(start + 5, start + 20)}


@pytest.mark.parametrize(
    ("change", "point"),
    [
        ("drop_partition", "drop_partition.committed"),
        pytest.param("drop_partition", "remove.published", marks=pytest.mark.nightly),
        pytest.param("truncate_collection", "log.rotated", marks=pytest.mark.nightly),
        ("truncate_collection", "truncate.committed"),
        pytest.param("truncate_collection", "remove.published", marks=pytest.mark.nightly),
    ],
)
def test_rows_are_removed_whole_or_not_at_all_by_a_kill_at(
    new_server: Callable[..., Any], change: str, point: str
) -> None:
    is_done = point in DONE
    server = new_server(env={"MILVINE_CRASH_AT": point} if is_done else {})
    client = MilvusClient(uri=server.uri)
    create(client, NAME, "FLAT")
    for partition in (KEPT, GONE):
        client.create_partition(NAME, partition)
    _write(client, 0)
    client.release_partitions(NAME, [GONE])
    client.close()
    if not is_done:
        server.stop()
        server = new_server(data_dir=server.data_dir, env={"MILVINE_CRASH_AT": point})
    with pytest.raises(grpc.RpcError):
        if change == "drop_partition":
            request = milvus_pb2.DropPartitionRequest(collection_name=NAME, partition_name=GONE)
            server.stub.DropPartition(request)
        else:
            server.stub.TruncateCollection(milvus_pb2.TruncateCollectionRequest(collection_name=NAME))
    ended_by_itself(server)
    assert damages(server.data_dir) == []
    server = new_server(data_dir=server.data_dir)
    client = MilvusClient(uri=server.uri)
    assert client.has_partition(NAME, GONE) is (change != "drop_partition" or not is_done)
    client.load_collection(NAME)
    kept = set() if change == "truncate_collection" and is_done else _alive(0)
    gone = set() if is_done else _alive(1000)
    assert {row["id"] for row in client.query(NAME, filter="id >= 0")} == kept | gone
    files = {int(p.name) for p in (server.data_dir / "segments").glob("*/*") if p.is_dir()}
    assert (len(files) == 0) is (not kept)
    client.create_partition(NAME, GONE)
    _write(client, 5000)
    client.flush(NAME)
    assert {r["id"] for r in client.query(NAME, filter="id >= 0")} == kept | gone | _alive(5000) | _alive(6000)
    check_searches(client, NAME, {k: row_of(k, "x") for k in kept | gone | _alive(5000) | _alive(6000)}, 1)
    client.close()
    server.stop()
    assert damages(server.data_dir) == []
