"""Snapshots: made without copies, kept through everything that removes files, pinned, and restored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import requests
from conftest import Server
from directory_check import findings
from pymilvus import DataType, Function, FunctionType, MilvusClient, MilvusException
from pymilvus.grpc_gen import milvus_pb2

from milvine.catalog.opening import read_catalog_of

DIM = 8
ROWS = 300
MERGES_SOON = {"MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "1"}


@pytest.fixture
def client(server: Server) -> Iterator[MilvusClient]:
    client = server.client()
    yield client
    client.close()


@pytest.fixture
def name(request: pytest.FixtureRequest, client: MilvusClient) -> Iterator[str]:
    name = f"s{abs(hash(request.node.name)) % 10**9}"
    yield name
    for found in client.list_collections():
        if found.startswith(name):
            client.drop_collection(found)


def vector(key: int) -> list[float]:
    found: list[float] = np.random.default_rng(key).random(DIM).tolist()
    return found


def rows(first: int, count: int, color: str = "red") -> list[dict[str, Any]]:
    return [{"id": k, "vector": vector(k), "color": color} for k in range(first, first + count)]


def filled(client: MilvusClient, name: str) -> None:
    """Three flushes, the last one of deletes: ROWS - 10 rows."""
    client.create_collection(name, dimension=DIM)
    client.insert(name, rows(0, ROWS // 2))
    client.flush(name)
    client.insert(name, rows(ROWS // 2, ROWS // 2))
    client.delete(name, ids=[*range(10)])
    client.flush(name)


def count(client: MilvusClient, name: str, expression: str = "") -> int:
    client.load_collection(name)
    found = client.query(name, filter=expression, output_fields=["count(*)"], consistency_level="Strong")
    return int(found[0]["count(*)"])


def restored(client: MilvusClient, snapshot: str, source: str, target: str, **options: Any) -> Any:
    job_id = client.restore_snapshot(snapshot, source, target, **options)
    deadline = time.monotonic() + 30
    while (job := client.get_restore_snapshot_state(job_id)).state in (
        "RestoreSnapshotPending",
        "RestoreSnapshotExecuting",
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert job.state == "RestoreSnapshotCompleted", job.reason
    return job


def refusal(call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[int, str]:
    with pytest.raises(MilvusException) as caught:
        call(*arguments, **options)
    return caught.value.code, caught.value.message


def segment_files(server: Server, collection_id: int) -> set[str]:
    root = server.data_dir / "segments" / str(collection_id)
    return {path.relative_to(root).as_posix() for path in root.rglob("*.*")}


@pytest.fixture(scope="module")
def merging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that merges small segments soon. Tests kill and start it, and drop their collections."""
    server = Server(tmp_path_factory.mktemp("merging"), env=MERGES_SOON)
    try:
        yield server.start()
        server.stop()
        assert findings(server.data_dir) == []
    finally:
        server.close()


def test_a_restored_collection_is_the_one_of_the_last_flush_before_the_snapshot(
    client: MilvusClient, name: str
) -> None:
    filled(client, name)
    client.insert(name, rows(5000, 7))
    client.create_snapshot("before", name, description="of the morning")
    client.flush(name)
    client.delete(name, filter="id < 200")
    client.flush(name)
    job = restored(client, "before", name, f"{name}_again")
    assert (job.progress, job.collection_name, job.db_name, job.snapshot_name) == (
        100,
        f"{name}_again",
        "default",
        "before",
    )
    assert job.start_time > 0 and job.time_cost > 0
    assert count(client, f"{name}_again") == ROWS - 10, "rows that were not flushed are not part of it, deletes are"
    assert client.search(f"{name}_again", [vector(44)], limit=1)[0][0]["id"] == 44
    assert client.query(f"{name}_again", filter="id == 44", output_fields=["color"])[0]["color"] == "red"
    described = client.describe_snapshot("before", name)
    assert (described.name, described.description, described.collection_name) == ("before", "of the morning", name)
    assert described.partition_names == ["_default"] and described.create_ts > 0
    assert client.list_snapshots(name) == ["before"]
    client.insert(f"{name}_again", rows(9000, 5))
    client.upsert(f"{name}_again", rows(20, 5, "blue"))
    client.delete(f"{name}_again", ids=[50])
    client.flush(f"{name}_again")
    assert count(client, f"{name}_again") == ROWS - 10 + 5 - 1
    assert count(client, f"{name}_again", 'color == "blue"') == 5
    assert count(client, name) == ROWS + 7 - 200, "the source is as it was"


def test_everything_of_a_collection_is_restored(client: MilvusClient, name: str) -> None:
    schema = client.create_schema(auto_id=False, enable_dynamic_field=True, description="all of it")
    schema.add_field("pk", DataType.VARCHAR, max_length=40, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("bits", DataType.BINARY_VECTOR, dim=16)
    schema.add_field("text", DataType.VARCHAR, max_length=100, enable_analyzer=True, enable_match=True)
    schema.add_field("size", DataType.INT64, nullable=True, default_value=3)
    schema.add_field("tags", DataType.ARRAY, element_type=DataType.INT64, max_capacity=4)
    schema.add_field("doc", DataType.JSON)
    index = client.prepare_index_params()
    index.add_index("vec", index_type="HNSW", metric_type="L2", params={"M": 8, "efConstruction": 40})
    index.add_index("bits", index_type="BIN_FLAT", metric_type="HAMMING")
    index.add_index("size", index_type="INVERTED")
    client.create_collection(
        name,
        schema=schema,
        index_params=index,
        consistency_level="Session",
        properties={"collection.ttl.seconds": "9999"},
    )
    client.create_partition(name, "left")
    client.create_partition(name, "right")
    for partition in ("left", "right"):
        client.insert(
            name,
            [
                {
                    "pk": f"{partition}{k}",
                    "vec": vector(k),
                    "bits": bytes([k % 256, 1]),
                    "text": f"word{k} and more",
                    "tags": [k],
                    "doc": {"k": k},
                    "extra": k,
                }
                | ({} if k % 2 else {"size": k})
                for k in range(1200)
            ],
            partition_name=partition,
        )
        client.flush(name)
    client.delete(name, ids=["left5", "right6"])
    client.delete(name, filter='pk like "left9%"', partition_name="left")
    client.flush(name)
    client.create_snapshot("all", name)
    restored(client, "all", name, f"{name}_b")
    was, now = client.describe_collection(name), client.describe_collection(f"{name}_b")
    same = ("fields", "functions", "description", "enable_dynamic_field", "num_shards", "consistency_level", "auto_id")
    assert {key: was[key] for key in same} == {key: now[key] for key in same}
    assert was["properties"] == now["properties"] and was["collection_id"] != now["collection_id"]
    assert sorted(client.list_partitions(f"{name}_b")) == ["_default", "left", "right"]
    for index_name in client.list_indexes(name):
        ours, theirs = client.describe_index(name, index_name), client.describe_index(f"{name}_b", index_name)
        assert ours == theirs
    assert client.get_load_state(f"{name}_b")["state"].name == "NotLoad"
    for target in (name, f"{name}_b"):
        assert count(client, target) == 2400 - 2 - 111
        found = client.query(target, filter='pk in ["left5", "left90", "right90", "right7"]', output_fields=["*"])
        assert sorted(row["pk"] for row in found) == ["right7", "right90"]
        assert {row["size"] for row in found} == {3, 90} and found[0]["bits"]
        assert count(client, target, 'text_match(text, "word77")') == 2
        hits = client.search(target, [vector(40)], anns_field="vec", limit=2, output_fields=["extra"])[0]
        assert {hit["pk"] for hit in hits} == {"left40", "right40"} and hits[0]["entity"]["extra"] == 40
        assert len(client.query(target, filter="extra < 10", partition_names=["right"])) == 9


def test_partition_keys_lead_to_the_same_rows(client: MilvusClient, name: str) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("key", DataType.VARCHAR, max_length=20, is_partition_key=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    index = client.prepare_index_params()
    index.add_index("vec", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=index, num_partitions=7)
    client.insert(name, [{"id": k, "key": f"k{k % 50}", "vec": [k, 1]} for k in range(500)])
    client.flush(name)
    client.delete(name, filter='key == "k3"')
    client.flush(name)
    client.create_snapshot("s", name)
    restored(client, "s", name, f"{name}_b")
    for key in range(50):
        assert count(client, f"{name}_b", f'key == "k{key}"') == (0 if key == 3 else 10)


def test_files_stay_through_compaction_drops_and_truncation(merging: Server) -> None:
    server, client = merging, merging.client()
    filled(client, "c")
    collection_id = client.describe_collection("c")["collection_id"]
    first = segment_files(server, collection_id)
    client.create_snapshot("s", "c")
    client.release_collection("c")
    client.drop_index("c", "vector")
    client.create_index("c", client.prepare_index_params("vector", index_type="FLAT", metric_type="L2"))
    compacted = client.compact("c")
    deadline = time.monotonic() + 30
    while client.get_compaction_state(compacted) != "Completed":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    client.truncate_collection("c")
    assert first <= segment_files(server, collection_id), "what the snapshot names is there"
    server.kill()
    server.start()
    client = server.client()
    assert first <= segment_files(server, collection_id), "also after a restart"
    restored(client, "s", "c", "d")
    assert (count(client, "c"), count(client, "d")) == (0, ROWS - 10)
    client.drop_snapshot("s", "c")
    assert segment_files(server, collection_id) == set(), "the last name is gone"
    assert count(client, "d") == ROWS - 10
    client.drop_collection("d")
    client.drop_collection("c")
    client.close()


def test_a_pinned_snapshot_outlives_its_collection(merging: Server) -> None:
    server, client = merging, merging.client()
    filled(client, "c")
    collection_id = client.describe_collection("c")["collection_id"]
    client.create_snapshot("free", "c")
    client.create_snapshot("pinned", "c")
    client.create_snapshot("briefly", "c")
    pin = client.pin_snapshot_data("pinned", "c", ttl_seconds=0)
    client.pin_snapshot_data("briefly", "c", ttl_seconds=1)
    assert refusal(client.drop_snapshot, "pinned", "c") == (
        2601,
        "active pins exist, unpin before dropping: snapshot is pinned[snapshot=pinned]",
    )
    files = segment_files(server, collection_id)
    client.drop_collection("c")
    assert segment_files(server, collection_id) == files
    server.kill()
    server.start()
    client = server.client()
    assert segment_files(server, collection_id) == files
    client.unpin_snapshot_data(pin)
    client.unpin_snapshot_data(pin)
    deadline = time.monotonic() + 20
    while segment_files(server, collection_id):
        assert time.monotonic() < deadline, "the files go with the last pin"
        time.sleep(0.05)
    client.create_collection("c", dimension=DIM)
    assert client.list_snapshots("c") == []
    client.drop_collection("c")
    client.close()


def test_protected_segments_are_not_compacted(merging: Server) -> None:
    server, client = merging, merging.client()
    filled(client, "c")
    client.create_snapshot("s", "c", compaction_protection_seconds=3600)
    kept = read_catalog_of(server.data_dir).snapshots
    ids = {m.segment_id for one in kept.values() for m in one.segments}
    assert client.compact("c") == -1
    client.insert("c", rows(2000, 50))
    client.flush("c")
    time.sleep(2)
    found = read_catalog_of(server.data_dir)
    assert ids <= {m.segment_id for metas in found.segments.values() for m in metas}
    client.drop_collection("c")
    client.close()


def test_names_follow_aliases_renaming_and_databases(client: MilvusClient, server: Server, name: str) -> None:
    filled(client, name)
    client.create_alias(name, f"{name}_alias")
    client.create_snapshot("s", f"{name}_alias")
    client.drop_alias(f"{name}_alias")
    client.rename_collection(name, f"{name}_renamed")
    assert client.list_snapshots(f"{name}_renamed") == ["s"]
    client.create_database(f"{name}_db")
    try:
        job = restored(client, "s", f"{name}_renamed", f"{name}_there", target_db_name=f"{name}_db")
        assert (job.db_name, job.collection_name) == (f"{name}_db", f"{name}_there")
        other = server.client(db_name=f"{name}_db")
        assert count(other, f"{name}_there") == ROWS - 10
        assert [j.job_id for j in other.list_restore_snapshot_jobs()] == [job.job_id]
        assert job.job_id not in [j.job_id for j in client.list_restore_snapshot_jobs()]
        other.create_alias(f"{name}_there", "there")
        assert [j.job_id for j in other.list_restore_snapshot_jobs("there")] == [job.job_id]
        other.drop_alias("there")
        other.drop_collection(f"{name}_there")
        assert client.get_restore_snapshot_state(job.job_id).collection_name == ""
        other.close()
    finally:
        client.drop_database(f"{name}_db")


def test_bad_requests_get_the_texts_of_milvus(client: MilvusClient, server: Server, name: str) -> None:
    filled(client, name)
    client.create_snapshot("s", name)
    collection_id = client.describe_collection(name)["collection_id"]
    stub = server.stub
    assert refusal(client.create_snapshot, " ", name)[0] == 1100
    assert (
        "the first character of snapshot name must be an underscore or letter"
        in refusal(client.create_snapshot, "1a", name)[1]
    )
    assert refusal(client.create_snapshot, "s", name) == (
        1100,
        f"snapshot name s already exists in collection {collection_id}: invalid parameter",
    )
    assert refusal(client.create_snapshot, "t", "nowhere")[0] == 100
    request = milvus_pb2.CreateSnapshotRequest(name="t", collection_name=name, compaction_protection_seconds=-1)
    status = stub.CreateSnapshot(request)
    assert (status.code, status.reason) == (
        1100,
        "compaction_protection_seconds must be non-negative: invalid parameter",
    )
    assert refusal(client.create_snapshot, "t", name, compaction_protection_seconds=604801) == (
        1100,
        "compaction_protection_seconds must not exceed 604800: invalid parameter",
    )
    missing = (2600, f"collection {collection_id}: snapshot not found[snapshot=none]")
    assert refusal(client.describe_snapshot, "none", name) == missing
    assert refusal(client.restore_snapshot, "none", name, "x") == missing
    assert refusal(client.pin_snapshot_data, "none", name, ttl_seconds=1) == missing
    client.drop_snapshot("none", name)
    negative = milvus_pb2.PinSnapshotDataRequest(name="s", collection_name=name, ttl_seconds=-1)
    status = stub.PinSnapshotData(negative).status
    assert (status.code, status.reason) == (1100, "ttl_seconds must be non-negative: invalid parameter")
    assert refusal(client.pin_snapshot_data, "s", name, ttl_seconds=2592001) == (
        1100,
        "ttl_seconds exceeds maximum of 2592000 (30 days): invalid parameter",
    )
    status = stub.UnpinSnapshotData(milvus_pb2.UnpinSnapshotDataRequest())
    assert (status.code, status.reason) == (1101, "pin_id is required for unpin snapshot data: missing parameter")
    status = stub.ListSnapshots(milvus_pb2.ListSnapshotsRequest()).status
    assert (status.code, status.reason) == (1101, "collection_name is required for ListSnapshots: missing parameter")
    request = milvus_pb2.RestoreSnapshotRequest(name="s", collection_name=name)
    status = stub.RestoreSnapshot(request).status
    assert (status.code, status.reason) == (
        1101,
        "target_collection_name is required for restore snapshot: missing parameter",
    )
    assert "duplicate collection" in refusal(client.restore_snapshot, "s", name, name)[1]
    client.create_alias(name, f"{name}_a")
    assert refusal(client.restore_snapshot, "s", name, f"{name}_a")[0] == 1601
    client.drop_alias(f"{name}_a")
    assert refusal(client.restore_snapshot, "s", name, "x", target_db_name="nowhere")[0] == 800
    assert refusal(client.get_restore_snapshot_state, 7) == (
        2100,
        "restore job not found: jobID=7: importing data failed",
    )


def test_restore_jobs_are_described_over_rest(client: MilvusClient, server: Server, name: str) -> None:
    filled(client, name)
    client.create_snapshot("s", name)
    request = milvus_pb2.RestoreSnapshotRequest(
        name="s", collection_name=name, target_collection_name=f"{name}_b", rewrite_data=True
    )
    job_id = server.stub.RestoreSnapshot(request).job_id
    deadline = time.monotonic() + 30
    while (job := client.get_restore_snapshot_state(job_id)).progress < 100:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    url = f"{server.uri}/v2/vectordb/jobs/snapshot/"
    found = requests.post(f"{url}describe", json={"jobId": str(job.job_id)}, timeout=30).json()
    wanted = {
        "jobId": job.job_id,
        "snapshotName": "s",
        "dbName": "default",
        "collectionName": f"{name}_b",
        "state": "RestoreSnapshotCompleted",
        "progress": 100,
        "reason": "",
        "startTime": job.start_time,
        "timeCost": job.time_cost,
    }
    assert found == {"code": 0, "data": wanted}
    listed = requests.post(f"{url}list", json={"collectionName": f"{name}_b"}, timeout=30).json()
    assert listed == {"code": 0, "data": {"records": [wanted]}}
    for text, reason in (("x", "invalid syntax"), ("9" * 30, "value out of range")):
        refused = requests.post(f"{url}describe", json={"jobId": text}, timeout=30).json()
        assert refused["code"] == 1100 and reason in refused["message"]


def posted(server: Server, route: str, **body: Any) -> Any:
    answer = requests.post(f"{server.uri}/{route}", json=body, timeout=60).json()
    return answer["data"] if answer["code"] == 0 else (answer["code"], answer["message"])


def at(server: Server, route: str, name: str, **body: Any) -> Any:
    return posted(server, f"v2/vectordb/entities/{route}", collectionName=name, snapshotName="then", **body)


@pytest.fixture(scope="module")
def past(server: Server) -> Iterator[str]:
    """A snapshot of a collection that has changed since in every way, and is not loaded."""
    client = server.client()
    name = "the_past"
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("text", DataType.VARCHAR, max_length=64, enable_analyzer=True)
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["sparse"]))
    indexes = client.prepare_index_params()
    indexes.add_index("vector", index_type="HNSW", metric_type="L2", params={"M": 8, "efConstruction": 64})
    indexes.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
    indexes.add_index("text", index_type="INVERTED")
    client.create_collection(name, schema=schema, index_params=indexes)
    client.create_partition(name, "a")
    texts = [{**row, "text": f"word{row['id']} sea"} for row in rows(0, ROWS)]
    client.insert(name, texts[:200])
    client.flush(name)
    client.insert(name, texts[200:], partition_name="a")
    client.delete(name, ids=[*range(10)])
    client.flush(name)
    client.create_snapshot("then", name)
    client.delete(name, ids=[*range(100)])
    client.upsert(name, [{**row, "text": "new", "color": "blue"} for row in rows(150, 100)])
    client.insert(name, [{**row, "text": "late"} for row in rows(5000, 50)])
    client.drop_index(name, "text")
    client.add_collection_field(name, "later", DataType.INT64, nullable=True)
    client.flush(name)
    client.compact(name)
    client.release_collection(name)
    yield name
    client.drop_collection(name)
    client.close()


def test_queries_of_a_snapshot_answer_as_then(server: Server, past: str) -> None:
    assert at(server, "query", past, filter="", outputFields=["count(*)"]) == [{"count(*)": ROWS - 10}]
    found = at(server, "query", past, filter="id >= 148 and id < 152", outputFields=["*"])
    assert [(row["id"], row["color"], row["text"]) for row in found] == [
        (i, "red", f"word{i} sea") for i in range(148, 152)
    ]
    assert "later" not in found[0]
    assert found[0]["vector"] == pytest.approx(vector(148), rel=1e-6)
    refused = at(server, "query", past, filter="later > 1 and id > 0", outputFields=["id"])
    assert refused == [], "a key of the dynamic field then, of which no row has one"
    assert [row["id"] for row in at(server, "get", past, id=[3, 20, 5000], outputFields=["id"])] == [20]
    part = at(server, "query", past, filter="", partitionNames=["a"], outputFields=["count(*)"])
    assert part == [{"count(*)": ROWS - 200}]
    assert at(server, "query", past, filter="", outputFields=["min(id)", "max(id)"]) == [
        {"min(id)": 10, "max(id)": ROWS - 1}
    ]


def test_searches_of_a_snapshot_answer_as_then(server: Server, past: str) -> None:
    near = at(server, "search", past, data=[vector(160)], annsField="vector", limit=2, outputFields=["color"])
    assert (near[0]["id"], near[0]["color"]) == (160, "red")
    deleted = at(server, "search", past, data=[vector(3)], annsField="vector", limit=1)
    assert deleted[0]["id"] != 3, "deleted before the snapshot"
    alive = at(server, "search", past, data=[vector(50)], annsField="vector", limit=1, filter="id < 100")
    assert alive[0]["id"] == 50, "deleted after the snapshot"
    words = at(server, "search", past, data=["word170"], annsField="sparse", limit=3)
    assert [hit["id"] for hit in words] == [170]
    searches = [
        {"data": [vector(44)], "annsField": "vector", "limit": 3},
        {"data": ["word44"], "annsField": "sparse", "limit": 3},
    ]
    rerank = {"strategy": "rrf", "params": {"k": 60}}
    hybrid = at(server, "hybrid_search", past, search=searches, rerank=rerank, limit=1)
    assert hybrid[0]["id"] == 44
    steps = posted(
        server, "milvine/v1/explain", collectionName=past, snapshotName="then", data=[vector(1)], annsField="vector"
    )
    assert sum(one["rows"] for one in steps) == ROWS


def test_reads_of_snapshots_that_cannot_be(server: Server, client: MilvusClient, past: str, name: str) -> None:
    body = {"filter": "id > 0", "limit": 1}
    missing = posted(server, "v2/vectordb/entities/query", collectionName=past, snapshotName="none", **body)
    assert missing[0] == 2600 and "snapshot not found" in missing[1]
    hidden = posted(server, "v2/vectordb/entities/query", collectionName=past, snapshotName="#1", **body)
    assert hidden[0] == 1100
    not_loaded = posted(server, "v2/vectordb/entities/query", collectionName=past, **body)
    assert not_loaded[0] == 101, "the collection itself is not loaded"
    filled(client, name)
    client.create_snapshot("then", name)
    assert at(server, "query", name, filter="", outputFields=["count(*)"]) == [{"count(*)": ROWS - 10}]
    client.drop_snapshot("then", name)
    assert at(server, "query", name, filter="", outputFields=["count(*)"])[0] == 2600
