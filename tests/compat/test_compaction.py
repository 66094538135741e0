"""Merging and compaction through the public door: what is merged, what goes, what is said about it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Server
from grpc_calls import assert_ok, assert_refused
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.grpc_gen import common_pb2, milvus_pb2

DIM = 8
WAIT_SECONDS = 100.0
EAGER = {"MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "1", "MILVINE_COMMON_RETENTIONDURATION": "0"}
LAZY = {"MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "600", "MILVINE_COMMON_RETENTIONDURATION": "0"}


def vectors(keys: range, dim: int = DIM) -> Any:
    return np.random.default_rng(keys.start).standard_normal((len(keys), dim)).astype(np.float32)


def create(client: MilvusClient, name: str, *, dim: int = DIM, index_type: str = "FLAT", **options: Any) -> None:
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=dim)
    schema.add_field("name", DataType.VARCHAR, max_length=64, nullable=True)
    indexes = client.prepare_index_params()
    params = {"M": 4, "efConstruction": 8} if index_type == "HNSW" else {}
    indexes.add_index("vec", index_type=index_type, metric_type="L2", params=params)
    client.create_collection(name, schema=schema, index_params=indexes, **options)


def insert(client: MilvusClient, name: str, keys: range, *, dim: int = DIM) -> None:
    rows = [
        {"id": k, "vec": v, "name": None if k % 5 == 0 else f"n{k}", "tag": k % 3}
        for k, v in zip(keys, vectors(keys, dim), strict=True)
    ]
    client.insert(name, rows)


def count(client: MilvusClient, name: str, text: str = "") -> int:
    number: int = client.query(name, filter=text, output_fields=["count(*)"])[0]["count(*)"]
    return number


def until(condition: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def segments_of(server: Server, client: MilvusClient, name: str) -> list[Path]:
    """The directories of a collection's segments."""
    collection_id = client.describe_collection(name)["collection_id"]
    return list((server.data_dir / "segments" / str(collection_id)).glob("*"))


def stored_bytes(directory: Path) -> int:
    total = 0
    for path in (directory / "segments").rglob("*"):
        with suppress(FileNotFoundError):  # it may be removed meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


def ids(client: MilvusClient, name: str) -> set[int]:
    return {s.segment_id for s in client.list_persistent_segments(name)}


def finish(client: MilvusClient, job: int) -> None:
    until(lambda: client.get_compaction_state(job) == "Completed", "the compaction")


@pytest.fixture(scope="module")
def lazy(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that compacts when asked, and by itself only three segments or dead rows."""
    with Server(tmp_path_factory.mktemp("lazy"), env=LAZY).running() as server:
        yield server


@pytest.fixture(scope="module")
def eager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that merges any two segments."""
    with Server(tmp_path_factory.mktemp("eager"), env=EAGER).running() as server:
        yield server


def test_many_small_flushes_end_as_one_indexed_segment_and_every_read_sees_all_rows(eager: Server) -> None:
    client = eager.client()
    create(client, "c", index_type="HNSW")
    total = 20_000
    for start in range(0, total, total // 20):
        insert(client, "c", range(start, start + total // 20))
        client.flush("c")

    def is_settled() -> bool:
        assert count(client, "c") == total
        index = client.describe_index("c", "vec")
        return len(ids(client, "c")) == 1 and index["indexed_rows"] == total

    until(is_settled, "one indexed segment")
    expected = [(*ids(client, "c"), total, "vec")]
    until(
        lambda: [(s.segment_id, s.num_rows, s.index_name) for s in client.list_loaded_segments("c")] == expected,
        "the index serves",
    )
    until(lambda: len(segments_of(eager, client, "c")) == 1, "the sources leave the disk")
    hit = client.search("c", vectors(range(19_000, 19_005))[:1], limit=1, search_params={"ef": 512})[0][0]
    assert (hit["id"], hit["distance"]) == (19_000, 0)
    client.drop_collection("c")
    client.close()


def test_disk_and_deltas_shrink_after_deletes_and_living_rows_stay(new_server: Callable[..., Any]) -> None:
    server = new_server(env=EAGER)
    client = server.client()
    create(client, "c", dim=64)
    insert(client, "c", range(20_000), dim=64)
    client.flush("c")
    before = stored_bytes(server.data_dir)
    client.delete("c", ids=list(range(15_000)))
    client.flush("c")
    until(lambda: stored_bytes(server.data_dir) < 0.3 * before, "the disk shrinks")
    until(lambda: not list((server.data_dir / "segments").rglob("*.delta")), "the deltas go")
    assert client.get_collection_stats("c")["row_count"] == 5000
    for _ in range(2):
        assert count(client, "c") == 5000
        rows = client.query("c", filter="id in [14999, 15000, 15001]", output_fields=["vec", "name", "tag"])
        kept = vectors(range(20_000), 64)
        assert [(r["id"], r["name"], r["tag"]) for r in rows] == [(15000, None, 0), (15001, "n15001", 1)]
        assert [np.float32(r["vec"]).tobytes() for r in rows] == [kept[r["id"]].tobytes() for r in rows]
        assert count(client, "c", "tag == 1") == len([k for k in range(15_000, 20_000) if k % 3 == 1])
        client.close()
        server.kill()
        server.start()
        client = server.client()
        until(lambda c=client: c.get_load_state("c")["state"].name == "Loaded", "loaded again")  # type: ignore[misc]
    client.delete("c", ids=list(range(15_000, 20_000)))
    client.flush("c")
    until(lambda: not list((server.data_dir / "segments").rglob("*.*")), "nothing is left")
    assert count(client, "c") == 0
    insert(client, "c", range(10), dim=64)
    assert count(client, "c") == 10
    client.close()


def test_a_manual_compaction_reports_its_sources_and_its_result(lazy: Any) -> None:
    client = lazy.client()
    create(client, "merged")
    for start in (0, 100):
        insert(client, "merged", range(start, start + 100))
        client.flush("merged")
    sources = ids(client, "merged")
    job = client.compact("merged")
    assert job > 0
    finish(client, job)
    (plan,) = client.get_compaction_plans(job).plans
    assert set(plan.sources) == sources
    (segment,) = client.list_persistent_segments("merged")
    assert (segment.segment_id, segment.num_rows, set(segment.compaction_from)) == (plan.target, 200, sources)
    assert [(s.segment_id, s.num_rows) for s in client.list_loaded_segments("merged")] == [(plan.target, 200)]
    state = lazy.stub.GetCompactionState(milvus_pb2.GetCompactionStateRequest(compactionID=job))
    assert (state.completedPlanNo, state.executingPlanNo, state.failedPlanNo) == (1, 0, 0)
    assert [p.target for p in client.list_compaction_tasks("merged").plans] == [plan.target]
    assert count(client, "merged") == 200


def test_a_collection_without_automatic_compaction_is_merged_by_calls_only(lazy: Any) -> None:
    client = lazy.client()
    create(client, "by_hand", properties={"collection.autocompaction.enabled": "false"})
    create(client, "by_itself")
    for name in ("by_hand", "by_itself"):
        for start in (0, 100, 200):
            insert(client, name, range(start, start + 100))
            client.flush(name)
    until(lambda: len(ids(client, "by_itself")) == 1, "the merge of the other collection")
    assert len(ids(client, "by_hand")) == 3
    finish(client, client.compact("by_hand"))
    assert len(ids(client, "by_hand")) == 1
    for start in (300, 400, 500):
        insert(client, "by_hand", range(start, start + 100))
        client.flush("by_hand")
    client.alter_collection_properties("by_hand", {"collection.autocompaction.enabled": "true"})
    until(lambda: len(ids(client, "by_hand")) < 4, "the merge after automatic compaction was switched on")
    assert count(client, "by_hand") == 600


def test_a_compaction_with_nothing_to_do_answers_minus_one(lazy: Any) -> None:
    client = lazy.client()
    create(client, "nothing")
    assert client.compact("nothing") == -1
    insert(client, "nothing", range(10))
    assert client.compact("nothing") == -1, "growing rows are not compacted"
    client.flush("nothing")
    job = client.compact("nothing")
    finish(client, job)
    assert client.compact("nothing") == -1, "the result of a compaction is not compacted again"
    assert client.compact("nothing", is_clustering=True) == client.compact("nothing", is_l0=True) == -1
    assert client.get_compaction_state(-1) == "Completed"
    assert client.get_compaction_plans(-1).plans == []
    answer = lazy.stub.ManualCompaction(milvus_pb2.ManualCompactionRequest(collection_name="absent"))
    assert_refused(answer, 100, "collection not found")


def test_a_manual_compaction_folds_few_deletes_and_a_target_size_is_at_least_milvus_segment_size(lazy: Any) -> None:
    client = lazy.client()
    create(client, "few")
    insert(client, "few", range(100))
    client.flush("few")
    finish(client, client.compact("few"))
    client.delete("few", ids=[3])
    client.flush("few")
    time.sleep(0.01)
    job = client.compact("few")
    finish(client, job)
    assert [len(p.sources) for p in client.get_compaction_plans(job).plans] == [1]
    assert client.get_collection_stats("few")["row_count"] == count(client, "few") == 99
    create(client, "target", dim=512)
    for start in (0, 300):
        insert(client, "target", range(start, start + 300), dim=512)
        client.flush("target")
    for target in (1, 1023):
        with pytest.raises(MilvusException, match=f"targetSize {target} MB should be greater than") as error:
            client.compact("target", target_size=target)
        assert error.value.code == 1100
    job = client.compact("target", target_size=1024)
    finish(client, job)
    assert [len(p.sources) for p in client.get_compaction_plans(job).plans] == [2]
    (merged,) = client.list_persistent_segments("target")
    assert client.compact("target") == -1, "a merged segment is not merged again without a target size"
    job = client.compact("target", target_size=1024)
    finish(client, job)
    (plan,) = client.get_compaction_plans(job).plans
    assert list(plan.sources) == [merged.segment_id]
    assert plan.target == merged.segment_id, "a rewrite would change nothing, and its index would be built again"
    (kept,) = client.list_persistent_segments("target")
    assert (kept.segment_id, kept.num_rows) == (merged.segment_id, 600)
    stored = milvus_pb2.GetPersistentSegmentInfoRequest(collectionName="target")
    assert [one.is_sorted for one in assert_ok(lazy.stub.GetPersistentSegmentInfo(stored)).infos] == [True]


@pytest.mark.one_process("it counts one node and one replica")
def test_a_loaded_collection_has_one_replica_and_an_unloaded_one_none(lazy: Any) -> None:
    client = lazy.client()
    create(client, "replica")
    collection_id = client.describe_collection("replica")["collection_id"]
    request = milvus_pb2.GetReplicasRequest(collectionID=collection_id)
    (replica,) = assert_ok(lazy.stub.GetReplicas(request)).replicas
    assert (replica.collectionID, list(replica.node_ids), len(replica.shard_replicas)) == (collection_id, [1], 1)
    client.release_collection("replica")
    assert list(assert_ok(lazy.stub.GetReplicas(request)).replicas) == []


def test_flush_states_say_what_is_sealed(lazy: Any) -> None:
    client, stub = lazy.client(), lazy.stub
    create(client, "flushed")
    insert(client, "flushed", range(10))
    growing = milvus_pb2.GetPersistentSegmentInfoRequest(
        collectionName="flushed", states=[common_pb2.SegmentState.Growing]
    )
    (segment,) = assert_ok(stub.GetPersistentSegmentInfo(growing)).infos
    assert (segment.num_rows, segment.state) == (10, common_pb2.SegmentState.Growing)
    assert client.list_persistent_segments("flushed") == [] == client.list_loaded_segments("flushed")
    now = stub.AllocTimestamp(milvus_pb2.AllocTimestampRequest()).timestamp

    def flushed(**fields: Any) -> bool:
        request = milvus_pb2.GetFlushStateRequest(**fields)
        return bool(assert_ok(stub.GetFlushState(request)).flushed)

    def all_flushed(ts: int) -> bool:
        request = milvus_pb2.GetFlushAllStateRequest(flush_all_ts=ts)
        return bool(assert_ok(stub.GetFlushAllState(request)).flushed)

    assert not flushed(segmentIDs=[segment.segmentID])
    assert not flushed(collection_name="flushed", flush_ts=now)
    assert not all_flushed(now)
    answer = assert_ok(stub.FlushAll(milvus_pb2.FlushAllRequest()))
    assert flushed(segmentIDs=[segment.segmentID], collection_name="flushed", flush_ts=now)
    assert all_flushed(now) and all_flushed(answer.flush_all_ts)
    results = {r.collection_name: r for db in answer.flush_results for r in db.collection_results}
    assert list(results["flushed"].segment_ids.data) == [
        s.segment_id for s in client.list_persistent_segments("flushed")
    ]
    insert(client, "flushed", range(10, 20))
    assert all_flushed(answer.flush_all_ts), "rows that came later do not count"
    later = stub.AllocTimestamp(milvus_pb2.AllocTimestampRequest()).timestamp
    assert not all_flushed(later)
    client.flush_all()
    assert all_flushed(later)
    assert_refused(stub.GetFlushAllState(milvus_pb2.GetFlushAllStateRequest()), 1101, "FlushAllTs is required")


def test_expired_rows_are_invisible_at_once_and_soon_removed_from_disk(eager: Server) -> None:
    client = eager.client()
    create(client, "c", properties={"collection.ttl.seconds": "2"})
    create(client, "kept", properties={"collection.ttl.seconds": "0"})
    started = time.monotonic()
    insert(client, "c", range(50))
    client.flush("c")
    insert(client, "c", range(50, 60))
    insert(client, "kept", range(10))
    client.flush("kept")
    assert count(client, "c") == 60 or time.monotonic() > started + 1.8
    time.sleep(max(0.0, started + 1.5 - time.monotonic()))
    fresh = time.monotonic()
    insert(client, "c", range(100, 105))
    until(lambda: count(client, "c") <= 5, "the first rows expire", 4)
    if time.monotonic() < fresh + 1.8:
        assert count(client, "c") == 5
        hits = client.search("c", vectors(range(1)), limit=50)[0]
        assert {hit["id"] for hit in hits} <= set(range(100, 105))
    until(lambda: count(client, "c") == 0, "all rows expire", 4)
    assert client.get("c", ids=[1, 101]) == []
    until(lambda: not segments_of(eager, client, "c"), "expired rows leave the disk")
    assert count(client, "kept") == 10
    client.drop_collection("c")
    client.close()


@pytest.mark.parametrize(
    ("ttl", "text"),
    [
        ("abc", "collection TTL is not a valid positive integer"),
        ("-2", "collection TTL is out of range, expect [-1, 3155760000], got -2"),
    ],
)
def test_an_invalid_time_to_live_is_refused(client: MilvusClient, collection_name: str, ttl: str, text: str) -> None:
    with pytest.raises(Exception, match="collection TTL") as caught:
        create(client, collection_name, properties={"collection.ttl.seconds": ttl})
    assert text in str(caught.value)


def test_old_growing_rows_are_sealed_automatically(new_server: Callable[..., Any]) -> None:
    server = new_server(env={"MILVINE_DATACOORD_SEGMENT_MAXLIFE": "1"})
    client = server.client()
    create(client, "c")
    insert(client, "c", range(10))
    until(lambda: len(ids(client, "c")) == 1, "sealing by age", 10)
    assert count(client, "c") == 10
    client.close()


def test_a_full_write_buffer_seals_the_largest_collection(new_server: Callable[..., Any]) -> None:
    server = new_server(env={"MILVINE_WRITE_BUFFER_LIMIT": "2MB"})
    client = server.client()
    create(client, "large", dim=256)
    create(client, "small", dim=256)
    insert(client, "small", range(500), dim=256)
    insert(client, "large", range(1000), dim=256)
    assert ids(client, "small") == set() == ids(client, "large")
    insert(client, "large", range(1000, 1600), dim=256)
    until(lambda: ids(client, "large"), "the largest is sealed", 10)
    assert ids(client, "small") == set()
    assert (count(client, "large"), count(client, "small")) == (1600, 500)
    client.close()


def test_load_and_release_work_while_segments_are_merged(eager: Server) -> None:
    client = eager.client()
    create(client, "c")
    ending = threading.Event()
    errors: list[str] = []

    def toggle() -> None:
        toggler = eager.client()
        try:
            while not ending.is_set():
                toggler.release_collection("c")
                toggler.load_collection("c")
        except Exception as error:  # noqa: BLE001 - kept, and the test fails with it
            errors.append(repr(error))
        toggler.close()

    thread = threading.Thread(target=toggle)
    thread.start()
    total = 0
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        insert(client, "c", range(total, total + 100))
        if total >= 300:
            client.delete("c", ids=list(range(total - 300, total - 250)))
        total += 100
        client.flush("c")
        if total % 1000 == 0:
            client.compact("c")
    ending.set()
    thread.join(30)
    assert not errors
    client.load_collection("c")
    alive = total - 50 * (total // 100 - 3)
    until(lambda: len(ids(client, "c")) == 1, "one segment")
    assert count(client, "c") == alive
    rows = client.query("c", filter="id >= 0", output_fields=["name"])
    assert len({r["id"] for r in rows}) == len(rows) == alive
    client.drop_collection("c")
    client.close()
