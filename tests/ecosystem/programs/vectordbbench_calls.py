"""The calls of VectorDBBench's Milvus client: load, its optimization by a forced merge, searches with its filters.

The benchmark itself needs gigabytes of packages and its data sets.
"""

import random
import sys
import time

from pymilvus import DataType, MilvusClient

NAME, ROWS, DIM, BATCH = "vdb_bench", 4000, 32, 500
VECTOR_INDEX, ID_INDEX, LABEL_INDEX = "vector_idx", "id_sort_idx", "labels_idx"
LARGEST_MB = ((1 << 63) - 1) // (1 << 20)
SECONDS = 120


def until(what: str, is_so) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def create(client: MilvusClient) -> None:
    schema = MilvusClient.create_schema()
    schema.add_field("pk", DataType.INT64, is_primary=True)
    schema.add_field("id", DataType.INT64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("label", DataType.VARCHAR, max_length=256)
    indexes = MilvusClient.prepare_index_params()
    params = {"M": 16, "efConstruction": 100}
    indexes.add_index("vector", index_name=VECTOR_INDEX, index_type="HNSW", metric_type="COSINE", params=params)
    indexes.add_index("id", index_name=ID_INDEX, index_type="STL_SORT")
    indexes.add_index("label", index_name=LABEL_INDEX, index_type="BITMAP")
    client.create_collection(NAME, schema=schema, num_shards=1, consistency_level="Session")
    client.create_index(NAME, indexes)
    client.load_collection(NAME, replica_number=1)


def wait_ready(client: MilvusClient) -> None:
    until("the segments are not sorted", lambda: all(s.is_sorted for s in client.list_persistent_segments(NAME)))
    until("an index is not built", lambda: client.describe_index(NAME, VECTOR_INDEX)["pending_index_rows"] == 0)


def compacted(client: MilvusClient, **more: int) -> int:
    job = client.compact(NAME, **more)
    if job > 0:
        until("a merge does not end", lambda: client.get_compaction_state(job) == "Completed")
    return job


def optimize(client: MilvusClient) -> None:
    """The benchmark goes on only when one forced merge has planned every segment."""
    client.flush(NAME)
    wait_ready(client)
    compacted(client)
    wait_ready(client)
    segments = client.list_persistent_segments(NAME)
    expected = {s.segment_id for s in segments if s.state_name == "Flushed" and s.level_name not in ("L0", "L2")}
    job = compacted(client, target_size=LARGEST_MB)
    assert job > 0
    planned = {source for plan in client.get_compaction_plans(job).plans for source in plan.sources}
    assert expected
    assert expected <= planned, (expected, planned)
    wait_ready(client)
    client.refresh_load(NAME)


def main() -> None:
    client = MilvusClient(uri=sys.argv[1], user="", password="", token="", timeout=30)
    create(client)
    numbers = random.Random(7)
    vectors = [[numbers.gauss(0, 1) for _ in range(DIM)] for _ in range(ROWS)]
    for start in range(0, ROWS, BATCH):
        rows = [
            {"pk": i, "id": i, "vector": vectors[i], "label": f"label_{i % 4}"} for i in range(start, start + BATCH)
        ]
        assert client.insert(NAME, rows)["insert_count"] == BATCH
    optimize(client)
    assert client.get_collection_stats(NAME)["row_count"] == ROWS
    found = {"": 0, f"id >= {ROWS // 2}": 0, "label == 'label_1'": 0}
    asked = range(ROWS // 2 + 1, ROWS, 80)  # rows that pass each of the filters
    for text in found:
        for i in asked:
            (hits,) = client.search(
                NAME, [vectors[i]], anns_field="vector", search_params={"params": {"ef": 128}}, limit=10, filter=text
            )
            assert len(hits) == 10, text
            found[text] += hits[0]["pk"] == i
    assert all(count >= len(asked) - 1 for count in found.values()), found
    client.drop_collection(NAME)
    print("vectordbbench: ok")


main()
