"""Upserts replace whole rows by key, at once, and are durable as one record."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from grpc_calls import assert_ok, assert_refused, count, scalars, vectors
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from sample_collections import add_index, c1_rows, ids_of, make_c1

ORIGIN = [0.0, 0.0, 0.0, 0.0]
EVERYTHING = "id >= 0"


def _make(client: MilvusClient, name: str, key_type: DataType = DataType.INT64, *, auto_id: bool = False) -> None:
    """id, vec of 4, n nullable, s with a default, and dynamic keys; loaded."""
    schema = client.create_schema(auto_id=auto_id, enable_dynamic_field=True)
    schema.add_field("id", key_type, is_primary=True, max_length=16)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    schema.add_field("n", DataType.INT64, nullable=True)
    schema.add_field("s", DataType.VARCHAR, max_length=8, default_value="none")
    client.create_collection(name, schema=schema)
    add_index(client, name, "vec")
    client.load_collection(name)


def _rows(client: MilvusClient, name: str) -> dict[Any, dict[str, Any]]:
    found = client.query(name, filter="", limit=100, output_fields=["*"])
    return {row["id"]: {k: v for k, v in row.items() if k not in ("id", "vec")} for row in found}


def _request(name: str, row_count: int, *columns: Any, **others: Any) -> Any:
    return milvus_pb2.UpsertRequest(collection_name=name, num_rows=row_count, fields_data=columns, **others)


@pytest.mark.parametrize("key_type", [DataType.INT64, DataType.VARCHAR], ids=["int", "text"])
@pytest.mark.parametrize("flush_between", [False, True], ids=["growing", "sealed"])
def test_a_row_replaces_the_one_with_its_key_whole(
    client: MilvusClient, collection_name: str, key_type: DataType, flush_between: bool
) -> None:
    """A column that the new row lacks is NULL or the default, never the old value."""
    _make(client, collection_name, key_type)
    key: Callable[[int], Any] = str if key_type is DataType.VARCHAR else int
    client.insert(
        collection_name, [{"id": key(i), "vec": [i, 0, 0, 0], "n": i, "s": f"s{i}", "old": i} for i in range(4)]
    )
    if flush_between:
        client.flush(collection_name)
    new = [{"id": key(1), "vec": [7, 0, 0, 0]}, {"id": key(9), "vec": [9, 0, 0, 0], "n": 9, "fresh": True}]
    answer = client.upsert(collection_name, new)
    assert (answer["upsert_count"], answer["ids"]) == (2, [key(1), key(9)])
    wanted = {
        key(0): {"n": 0, "s": "s0", "old": 0},
        key(1): {"n": None, "s": "none"},
        key(2): {"n": 2, "s": "s2", "old": 2},
        key(3): {"n": 3, "s": "s3", "old": 3},
        key(9): {"n": 9, "s": "none", "fresh": True},
    }
    assert _rows(client, collection_name) == wanted
    hits = client.search(collection_name, [[7, 0, 0, 0]], limit=1)[0]
    assert [(h["id"], h["distance"]) for h in hits] == [(key(1), 0.0)]
    client.flush(collection_name)
    client.release_collection(collection_name)
    client.load_collection(collection_name)
    assert _rows(client, collection_name) == wanted
    assert client.query(collection_name, output_fields=["count(*)"])[0]["count(*)"] == 5


def test_an_upsert_into_an_unloaded_collection_is_seen_after_loading(
    client: MilvusClient, collection_name: str
) -> None:
    make_c1(client, collection_name)
    client.insert(collection_name, c1_rows(3))
    client.flush(collection_name)
    client.upsert(collection_name, [{"id": 1, "vec": ORIGIN, "a": -1}])
    client.load_collection(collection_name)
    rows = client.query(collection_name, filter=EVERYTHING, output_fields=["a"])
    assert [row["a"] for row in rows] == [0, -1, 20]


def test_an_upsert_with_automatic_ids_makes_new_ids_and_removes_the_named_rows(
    client: MilvusClient, collection_name: str
) -> None:
    _make(client, collection_name, auto_id=True)
    ids = client.insert(collection_name, [{"vec": ORIGIN, "n": n} for n in range(3)])["ids"]
    result = client.upsert(collection_name, [{"id": ids[1], "vec": ORIGIN, "n": 10}])
    (fresh,) = result["ids"]
    assert fresh not in ids
    assert {k: v["n"] for k, v in _rows(client, collection_name).items()} == {ids[0]: 0, ids[2]: 2, fresh: 10}


def test_the_answer_counts_as_milvus_does(client: MilvusClient, stub: Any, collection_name: str) -> None:
    make_c1(client, collection_name, load=True)
    columns = [scalars("id", schema_pb2.Int64, [4, 5]), vectors("vec", [ORIGIN] * 2)]
    answer = assert_ok(stub.Upsert(_request(collection_name, 2, *columns, scalars("a", schema_pb2.Int64, [1, 2]))))
    assert (answer.upsert_cnt, answer.insert_cnt, answer.delete_cnt) == (2, 2, 2)
    assert list(answer.IDs.int_id.data) == [4, 5]
    assert list(answer.succ_index) == [0, 1]
    assert answer.timestamp > 0


KEYS = scalars("id", schema_pb2.Int64, [1, 2])
VECTORS = vectors("vec", [ORIGIN, ORIGIN])
NUMBERS = scalars("a", schema_pb2.Int64, [1, 2])


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ([VECTORS, NUMBERS], "must assign pk when upsert, primary field: id"),
        (
            [scalars("id", schema_pb2.Int64, [7, 7]), VECTORS, NUMBERS],
            "duplicate primary keys are not allowed in the same batch",
        ),
        ([scalars("id", schema_pb2.VarChar, ["a", "b"]), VECTORS, NUMBERS], "field 'id' is illegal"),
        ([KEYS, VECTORS], "fieldSchema(a) has no corresponding fieldData pass in"),
    ],
)
def test_a_bad_upsert_is_refused_and_changes_nothing(
    client: MilvusClient, stub: Any, collection_name: str, columns: list[Any], text: str
) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(3))
    assert_refused(stub.Upsert(_request(collection_name, 2, *columns)), 1100, text, legacy=5)
    rows = client.query(collection_name, filter=EVERYTHING, output_fields=["a"])
    assert [row["a"] for row in rows] == [0, 10, 20]


def test_an_upsert_into_a_missing_collection_is_refused(client: MilvusClient, stub: Any, collection_name: str) -> None:
    assert_refused(stub.Upsert(_request(collection_name, 2, KEYS, VECTORS, NUMBERS)), 100, "collection not found")
    make_c1(client, collection_name)
    request = _request(collection_name, 2, KEYS, VECTORS, NUMBERS, partition_name="nope")
    assert_refused(stub.Upsert(request), 200, "partition not found[partition=nope]")
    for name in (" ", "12 s", "(mn)", "中文"):
        request.partition_name = name
        assert_refused(stub.Upsert(request), 1100, f"Invalid partition name: {name.strip()}. ")
    empty = _request(collection_name, 0, scalars("id", schema_pb2.Int64, []))
    assert_refused(stub.Upsert(empty), 1100, "num_rows should be greater than 0")


def test_readers_see_each_row_once_while_rows_are_replaced(
    client: MilvusClient, stub: Any, server: Any, collection_name: str
) -> None:
    """All rows of a batch have the same `a`, so a read with two values saw half an upsert."""
    make_c1(client, collection_name, load=True)
    rows = c1_rows(50)
    client.insert(collection_name, [{**row, "a": 0} for row in rows])
    done = threading.Event()

    def write() -> None:
        with_own = server.client()
        try:
            for round_number in range(1, 25):
                with_own.upsert(collection_name, [{**row, "a": round_number} for row in rows])
                if round_number in (8, 16):
                    with_own.flush(collection_name)
        finally:
            with_own.close()
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not done.is_set() or reads == 0:
        found = client.query(collection_name, filter=EVERYTHING, output_fields=["a"])
        assert len(found) == 50
        assert len({row["a"] for row in found}) == 1
        assert count(stub, collection_name) == 50
        reads += 1
    writer.join()
    assert {row["a"] for row in client.query(collection_name, filter=EVERYTHING, output_fields=["a"])} == {24}


@pytest.mark.parametrize("auto_id", [False, True], ids=["own keys", "automatic ids"])
def test_upserts_survive_a_kill(new_server: Callable[..., Any], auto_id: bool) -> None:
    """Replayed over sealed rows, over growing rows, and over each other."""
    server = new_server()
    client = server.client()
    _make(client, "c", auto_id=auto_id)
    given = [{"vec": [i, 0, 0, 0], "n": i, **({} if auto_id else {"id": i})} for i in range(4)]
    ids = [*client.insert("c", given[:2])["ids"]]
    client.flush("c")
    ids += [*client.insert("c", given[2:])["ids"]]
    for value in (10, 20):
        new = [{"id": ids[i], "vec": ORIGIN, "n": value + i} for i in (1, 2)]
        ids[1], ids[2] = client.upsert("c", new)["ids"]
    before = _rows(client, "c")
    assert {k: v["n"] for k, v in before.items()} == dict(zip(ids, [0, 21, 22, 3], strict=True))
    client.close()
    server.kill()
    server.start()
    client = server.client()
    client.load_collection("c")
    assert _rows(client, "c") == before
    client.flush("c")
    client.upsert("c", [{"id": ids[0], "vec": ORIGIN, "n": -1}])
    assert sorted(v["n"] for v in _rows(client, "c").values()) == [-1, 3, 21, 22]
    assert len(ids_of(client, "c", "n > 0")) == 3
    client.close()
