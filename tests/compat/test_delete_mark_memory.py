"""Delete marks added after a load count as memory of the load."""

from __future__ import annotations

from typing import Any

from load_calls import memory
from pymilvus import DataType, MilvusClient

ROWS = 5000


def _measured(server: Any, name: str) -> tuple[int, int]:
    """Bytes in total, and of this collection's keys and timestamps."""
    found = memory(server)
    own = next(c for c in found["collections"] if c["collectionName"] == name)
    parts = [p for q in own["partitions"] for s in q["segments"] for p in s["parts"] if p["kind"] == "rows"]
    return found["measuredBytes"], sum(p["measuredBytes"] for p in parts)


def test_delete_marks_after_a_load_are_counted_and_freed(
    client: MilvusClient, server: Any, collection_name: str
) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    index = client.prepare_index_params("vec", index_type="FLAT", metric_type="L2")
    client.create_collection(collection_name, schema=schema, consistency_level="Strong")
    client.insert(collection_name, [{"id": i, "vec": [float(i)] * 4} for i in range(ROWS)])
    client.flush(collection_name)
    client.create_index(collection_name, index)
    empty = memory(server)["measuredBytes"]
    client.load_collection(collection_name)
    all_before, rows_before = _measured(server, collection_name)
    for start in range(0, 900, 300):
        client.delete(collection_name, ids=list(range(start, start + 300)))
    all_after, rows_after = _measured(server, collection_name)
    assert rows_after - rows_before >= ROWS + 900 * 12  # a byte per row, and a row and a timestamp per mark
    assert all_after - all_before == rows_after - rows_before
    client.release_collection(collection_name)
    assert memory(server)["measuredBytes"] == empty
