"""Create, describe and drop indexes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ServerFactory
from grpc_calls import assert_ok, assert_refused, pairs
from load_calls import gate, until
from pymilvus import MilvusClient
from pymilvus.client.types import LoadState
from pymilvus.grpc_gen import milvus_pb2
from sample_collections import add_index, c1_rows, make_c1, make_quick, make_two_vectors, wait_indexed


def _create(stub: Any, name: str, field_name: str = "vec", index_name: str = "", **params: object) -> Any:
    return stub.CreateIndex(
        milvus_pb2.CreateIndexRequest(
            collection_name=name, field_name=field_name, index_name=index_name, extra_params=pairs(params)
        )
    )


def _describe(stub: Any, name: str, **others: Any) -> Any:
    return stub.DescribeIndex(milvus_pb2.DescribeIndexRequest(collection_name=name, **others))


@pytest.mark.parametrize(
    ("index_type", "params"),
    [("FLAT", {}), ("AUTOINDEX", {}), ("HNSW", {"M": "16", "efConstruction": "64"}), ("HNSW", {})],
    ids=["FLAT", "AUTOINDEX", "HNSW", "HNSW by default"],
)
@pytest.mark.parametrize("metric", ["L2", "IP", "COSINE"])
def test_an_index_is_described_as_it_was_requested(
    client: MilvusClient, collection_name: str, index_type: str, metric: str, params: dict[str, str]
) -> None:
    make_c1(client, collection_name, index=False)
    add_index(client, collection_name, "vec", index_type, metric, **params)
    assert client.list_indexes(collection_name) == ["vec"]
    described = client.describe_index(collection_name, "vec")
    assert described["index_type"] == index_type
    assert described["metric_type"] == metric
    assert described["field_name"] == "vec"
    assert {k: described[k] for k in params} == params
    assert (described["total_rows"], described["pending_index_rows"]) == (0, 0)


def test_index_name_may_be_chosen_and_drops_the_index(client: MilvusClient, stub: Any, collection_name: str) -> None:
    make_c1(client, collection_name, index=False)
    assert_ok(_create(stub, collection_name, index_name="mine", index_type="FLAT", metric_type="L2"))
    description = assert_ok(_describe(stub, collection_name)).index_descriptions[0]
    assert (description.index_name, description.field_name) == ("mine", "vec")
    client.drop_index(collection_name, "mine")
    assert client.list_indexes(collection_name) == []


def test_older_sdks_nest_the_parameters_in_json(client: MilvusClient, stub: Any, collection_name: str) -> None:
    make_c1(client, collection_name, index=False)
    nested = '{"M": 8, "efConstruction": 50}'
    assert_ok(_create(stub, collection_name, index_type="HNSW", metric_type="L2", params=nested))
    described = client.describe_index(collection_name, "vec")
    assert described["params"] == {"M": 8, "efConstruction": 50}, "as it was sent"


def test_making_the_same_index_again_is_a_success(client: MilvusClient, stub: Any, collection_name: str) -> None:
    make_c1(client, collection_name, index=False)
    for _ in range(2):
        assert_ok(_create(stub, collection_name, index_type="HNSW", metric_type="L2", M=8, efConstruction=64))


def test_a_second_other_index_on_a_field_is_refused(client: MilvusClient, stub: Any, collection_name: str) -> None:
    make_c1(client, collection_name, index=False)
    assert_ok(_create(stub, collection_name, index_type="HNSW", metric_type="L2", M=8, efConstruction=64))
    again = _create(stub, collection_name, index_type="HNSW", metric_type="IP", M=8, efConstruction=64)
    assert_refused(again, 1100, "at most one distinct index is allowed per field", legacy=5)
    assert client.describe_index(collection_name, "vec")["metric_type"] == "L2"


def test_an_index_name_serves_one_field_only(client: MilvusClient, stub: Any, collection_name: str) -> None:
    make_two_vectors(client, collection_name, indexed=())
    assert_ok(_create(stub, collection_name, "v0", "one", index_type="FLAT", metric_type="L2"))
    second = _create(stub, collection_name, "v1", "one", index_type="FLAT", metric_type="L2")
    assert_refused(second, 1100, "at most one distinct index is allowed per field")


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"index_type": "NOPE", "metric_type": "L2"}, "invalid index type: NOPE"),
        ({"index_type": "HNSW", "metric_type": "JACCARD"}, "does not support metric type: JACCARD"),
        ({"index_type": "FLAT", "metric_type": "nonsense"}, "does not support metric type: nonsense"),
        ({"index_type": "HNSW", "metric_type": "L2", "M": 1}, "param 'M' (1) should be in range [2, 2048]"),
        ({"index_type": "HNSW", "metric_type": "L2", "M": 2049}, "param 'M' (2049) should be in range [2, 2048]"),
        ({"index_type": "HNSW", "metric_type": "L2", "M": "x"}, "invalid integer value, key: 'M', value: 'x'"),
        ({"index_type": "HNSW", "metric_type": "L2", "M": 8.5}, "wrong data type in json, key: 'M'"),
        (
            {"index_type": "HNSW", "metric_type": "L2", "efConstruction": 0},
            "param 'efConstruction' (0) should be in range [1, 2147483647]",
        ),
        ({"index_type": "AUTOINDEX", "metric_type": "L2", "M": 8}, "only metric type can be passed when use AutoIndex"),
    ],
)
def test_bad_index_parameters_are_refused(
    client: MilvusClient, stub: Any, collection_name: str, params: dict[str, Any], text: str
) -> None:
    make_c1(client, collection_name, index=False)
    assert_refused(_create(stub, collection_name, **params), 1100, text, legacy=5)
    assert client.list_indexes(collection_name) == []


def test_index_on_a_missing_field_is_refused(client: MilvusClient, stub: Any, collection_name: str) -> None:
    make_c1(client, collection_name, index=False)
    made = _create(stub, collection_name, "nope", index_type="FLAT", metric_type="L2")
    assert_refused(made, 1100, "cannot create index on non-exist field: nope")


def test_index_on_a_missing_collection_is_refused(stub: Any, collection_name: str) -> None:
    made = _create(stub, collection_name, index_type="FLAT", metric_type="L2")
    assert_refused(made, 100, f"collection not found[database=default][collection={collection_name}]", legacy=4)


def test_vector_index_on_a_scalar_field_is_refused(client: MilvusClient, stub: Any, collection_name: str) -> None:
    make_c1(client, collection_name, index=False)
    made = _create(stub, collection_name, "a", index_type="HNSW", metric_type="L2")
    assert_refused(made, 1100, "index HNSW only supports vector data type")


def test_describing_without_an_index_is_index_not_found(client: MilvusClient, stub: Any, collection_name: str) -> None:
    make_c1(client, collection_name, index=False)
    text = f"index not found[collection={collection_name}]"
    assert_refused(_describe(stub, collection_name), 700, text, legacy=25)
    add_index(client, collection_name, "vec")
    named = _describe(stub, collection_name, index_name="other")
    assert_refused(named, 700, "index not found[indexName=other]", legacy=25)
    assert client.list_indexes(collection_name) == ["vec"]


def test_dropping_the_index_of_a_loaded_collection_is_refused(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    """IX-06"""
    make_c1(client, collection_name, load=True)
    dropped = stub.DropIndex(milvus_pb2.DropIndexRequest(collection_name=collection_name, field_name="vec"))
    assert_refused(dropped, 1100, "vector index cannot be dropped on loaded collection", legacy=5)
    assert client.list_indexes(collection_name) == ["vec"]
    assert client.get_load_state(collection_name)["state"] == LoadState.Loaded


@pytest.mark.parametrize("load", [False, True], ids=["unloaded", "loaded"])
def test_dropping_an_index_that_is_not_there_is_a_success(
    client: MilvusClient, stub: Any, collection_name: str, load: bool
) -> None:
    """IX-08"""
    make_c1(client, collection_name, load=load)
    request = milvus_pb2.DropIndexRequest(collection_name=collection_name, index_name="nope")
    assert_ok(stub.DropIndex(request))
    assert client.list_indexes(collection_name) == ["vec"]


def test_load_after_the_index_was_dropped_is_index_not_found(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    """IX-09"""
    make_c1(client, collection_name)
    client.drop_index(collection_name, "vec")
    loaded = stub.LoadCollection(milvus_pb2.LoadCollectionRequest(collection_name=collection_name))
    assert_refused(loaded, 700, f"index not found[collection={collection_name}]", legacy=25)


def test_an_index_may_be_replaced_by_another_type(client: MilvusClient, collection_name: str) -> None:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(20))
    client.flush(collection_name)
    client.release_collection(collection_name)
    client.drop_index(collection_name, "vec")
    add_index(client, collection_name, "vec", "HNSW", "IP")
    client.load_collection(collection_name)
    hits = client.search(collection_name, [[1.0, 0.0, 0.0, 0.0]], limit=3)[0]
    assert [(h["id"], h["distance"]) for h in hits] == [(19, 19.0), (18, 18.0), (17, 17.0)]


def test_index_progress_counts_sealed_rows_until_all_are_indexed(client: MilvusClient, collection_name: str) -> None:
    make_c1(client, collection_name, index=False)
    points = np.random.default_rng(3).normal(size=(2000, 4))
    client.insert(collection_name, [{"id": i, "vec": p, "a": i} for i, p in enumerate(points)])
    client.flush(collection_name)
    add_index(client, collection_name, "vec", "HNSW", "L2", M=8, efConstruction=40)
    wait_indexed(client, collection_name, "vec", 2000)
    described = client.describe_index(collection_name, "vec")
    assert (described["total_rows"], described["pending_index_rows"]) == (2000, 0)
    assert described["state"] == "Finished"


def test_an_index_on_a_collection_of_an_impossible_name_finds_none(stub: Any) -> None:
    made = _create(stub, "12 s", index_type="FLAT", metric_type="L2")
    assert_refused(made, 100, "collection not found[database=default][collection=12 s]", legacy=4)


@pytest.mark.parametrize("index_type", ["FLAT", "HNSW"])
def test_a_loaded_segment_names_its_index(client: MilvusClient, collection_name: str, index_type: str) -> None:
    """Also one without a file, of few rows or of the type FLAT."""
    make_quick(client, collection_name, 4, index_type=index_type)
    client.insert(collection_name, [{"id": i, "vector": [1.0, float(i), 0.0, 0.0]} for i in range(10)])
    client.flush(collection_name)
    wait_indexed(client, collection_name, "vector", 10)
    loaded = client.list_loaded_segments(collection_name)
    assert [segment.index_name for segment in loaded] == ["vector"]
    assert all(segment.index_id > 0 for segment in loaded)


def test_a_build_in_progress_tells_its_rows(new_server: ServerFactory, tmp_path: Path) -> None:
    with gate(tmp_path, "build.index_written") as held:
        server = new_server(env=held.environment)
        client: MilvusClient = server.client()
        make_c1(client, "c", index=False)
        client.insert("c", c1_rows(5000))
        client.flush("c")
        add_index(client, "c", "vec", "HNSW", "L2", M=8, efConstruction=16)

        def described() -> Any:
            return client.describe_index("c", "vec")

        until(lambda: described()["indexed_rows"] > 4000, "the rows of the build are not told")
        found = described()
        assert (found["indexed_rows"] + found["pending_index_rows"], found["total_rows"]) == (5000, 5000)
        assert found["state"] == "InProgress"
        request = milvus_pb2.GetIndexBuildProgressRequest(collection_name="c", index_name="vec")
        assert assert_ok(server.stub.GetIndexBuildProgress(request)).indexed_rows == found["indexed_rows"]
        held.let_through()
        wait_indexed(client, "c", "vec", 5000)
