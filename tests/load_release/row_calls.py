"""Raw gRPC calls for the rows of behaviours.md, and the collections that they start from."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest
from behaviours import NOT_APPLICABLE
from grpc_calls import (
    LOAD_STATE,
    assert_ok,
    collection_id,
    create_request,
    field,
    insert_request,
    load_state,
    pairs,
    query_request,
    scalars,
    search_request,
    vectors,
)
from pymilvus.grpc_gen import milvus_pb2, schema_pb2

NOT_EXIST, NOT_LOAD, LOADED = (LOAD_STATE.Value(f"LoadState{name}") for name in ("NotExist", "NotLoad", "Loaded"))
ORIGIN = [0.0, 0.0, 0.0, 0.0]
IN_MEMORY = milvus_pb2.ShowType.InMemory
DEFAULT_GROUP = "__default_resource_group"
KEY = field("id", schema_pb2.Int64, primary=True)
NUMBER = field("a", schema_pb2.Int64)
LOAD_SECONDS = 20.0


def vector(name: str = "vec") -> Any:
    return field(name, schema_pb2.FloatVector, dim=4)


def not_applicable(row: str) -> NoReturn:
    """End the test of a row that the table lists as not applicable, with the reason written there."""
    pytest.skip(f"{row} is not applicable: {NOT_APPLICABLE[row]}")


# Calls


def load(stub: Any, name: str, **others: Any) -> Any:
    return stub.LoadCollection(milvus_pb2.LoadCollectionRequest(collection_name=name, **others))


def release(stub: Any, name: str, **others: Any) -> Any:
    return stub.ReleaseCollection(milvus_pb2.ReleaseCollectionRequest(collection_name=name, **others))


def load_partitions(stub: Any, name: str, *partitions: str, **others: Any) -> Any:
    request = milvus_pb2.LoadPartitionsRequest(collection_name=name, partition_names=partitions, **others)
    return stub.LoadPartitions(request)


def release_partitions(stub: Any, name: str, *partitions: str) -> Any:
    request = milvus_pb2.ReleasePartitionsRequest(collection_name=name, partition_names=partitions)
    return stub.ReleasePartitions(request)


def state(stub: Any, name: str, *partitions: str, **others: Any) -> Any:
    """The whole response; see `load_state` of grpc_calls for a state that must succeed."""
    request = milvus_pb2.GetLoadStateRequest(collection_name=name, partition_names=partitions, **others)
    return stub.GetLoadState(request)


def progress(stub: Any, name: str, *partitions: str, **others: Any) -> Any:
    request = milvus_pb2.GetLoadingProgressRequest(collection_name=name, partition_names=partitions, **others)
    return stub.GetLoadingProgress(request)


def wait_loaded(stub: Any, name: str, *partitions: str, **others: Any) -> None:
    """Poll as the SDKs do."""
    deadline = time.monotonic() + LOAD_SECONDS
    while (percent := assert_ok(progress(stub, name, *partitions, **others)).progress) < 100:
        assert time.monotonic() < deadline, f"{percent} % after {LOAD_SECONDS} s"
        time.sleep(0.01)
    assert percent == 100
    assert load_state(stub, name, partition_names=partitions, **others) == LOADED


def loaded(stub: Any, name: str, **others: Any) -> str:
    assert_ok(load(stub, name, **others))
    wait_loaded(stub, name)
    return name


def partitions_loaded(stub: Any, name: str, *partitions: str, **others: Any) -> str:
    assert_ok(load_partitions(stub, name, *partitions, **others))
    wait_loaded(stub, name, *partitions)
    return name


def search(stub: Any, name: str, *partitions: str, limit: int = 100, **options: Any) -> Any:
    request = search_request(name, [ORIGIN], limit, **options)
    request.partition_names.extend(partitions)
    return stub.Search(request)


def found(stub: Any, name: str, *partitions: str, **options: Any) -> list[int]:
    """Ids that a search must find, nearest to the origin first: C1's in their order."""
    return list(assert_ok(search(stub, name, *partitions, **options)).results.ids.int_id.data)


def query(stub: Any, name: str, text: str = "id >= 0", *fields: str, partitions: Sequence[str] = ()) -> Any:
    request = query_request(name, text, fields)
    request.partition_names.extend(partitions)
    return stub.Query(request)


def column(response: Any, name: str = "id") -> list[int]:
    """An INT64 column of a query that must have succeeded."""
    by_name = {f.field_name: f for f in assert_ok(response).fields_data}
    return list(by_name[name].scalars.long_data.data)


def describe(stub: Any, name: str) -> Any:
    return assert_ok(stub.DescribeCollection(milvus_pb2.DescribeCollectionRequest(collection_name=name)))


def create_index(stub: Any, name: str, field_name: str, index_type: str = "FLAT", **params: object) -> Any:
    given = {"index_type": index_type, **params}
    request = milvus_pb2.CreateIndexRequest(
        collection_name=name, field_name=field_name, index_name=field_name, extra_params=pairs(given)
    )
    return stub.CreateIndex(request)


def drop_index(stub: Any, name: str, field_name: str) -> Any:
    request = milvus_pb2.DropIndexRequest(collection_name=name, field_name=field_name, index_name=field_name)
    return stub.DropIndex(request)


def flush(stub: Any, name: str) -> None:
    assert_ok(stub.Flush(milvus_pb2.FlushRequest(collection_names=[name])))


def delete(stub: Any, name: str, text: str) -> Any:
    return stub.Delete(milvus_pb2.DeleteRequest(collection_name=name, expr=text))


def insert(stub: Any, name: str, ids: Sequence[int], *more: Any, partition: str = "") -> None:
    """Rows of C1: id i, a 10 i, vec (i, 0, 0, 0); `more` are further columns."""
    request = insert_request(name, len(ids), *c1_columns(ids), *more)
    request.partition_name = partition
    assert_ok(stub.Insert(request))


def c1_columns(ids: Sequence[int]) -> list[Any]:
    points = [[float(i), 0.0, 0.0, 0.0] for i in ids]
    numbers = scalars("a", schema_pb2.Int64, [10 * i for i in ids])
    return [scalars("id", schema_pb2.Int64, ids), vectors("vec", points), numbers]


def colors(ids: Sequence[int]) -> Any:
    """The dynamic field of C1's rows: color c0, c1, ..."""
    data = scalars("$meta", schema_pb2.JSON, [json.dumps({"color": f"c{i}"}).encode() for i in ids])
    data.is_dynamic = True
    return data


def not_loaded(stub: Any, name: str, prefix: str = "") -> str:
    """The whole text of the refusal of an unloaded collection."""
    return f"{prefix}collection not loaded[collection={collection_id(stub, name)}]"


@contextmanager
def dropped_afterwards(stub: Any, *names: str) -> Iterator[None]:
    """Drops collections in addition to the one of the fixture."""
    try:
        yield
    finally:
        for name in names:
            stub.DropCollection(milvus_pb2.DropCollectionRequest(collection_name=name))


# Collections


def create(stub: Any, name: str, *fields: Any, dynamic: bool = False, indexed: Sequence[str] = ()) -> str:
    assert_ok(stub.CreateCollection(create_request(name, fields, dynamic=dynamic)))
    for field_name in indexed:
        assert_ok(create_index(stub, name, field_name, metric_type="L2"))
    return name


def c1(stub: Any, name: str, *, indexed: bool = True, rows: int = 5) -> str:
    """C1 with growing rows 0, 1, ..., not loaded."""
    create(stub, name, KEY, vector(), NUMBER, indexed=["vec"] if indexed else [])
    if rows:
        insert(stub, name, range(rows))
    return name


def loaded_c1(stub: Any, name: str, *, rows: int = 5) -> str:
    return loaded(stub, c1(stub, name, rows=rows))


def dynamic_c1(stub: Any, name: str) -> str:
    """C1 with a dynamic key `color`; rows 0 to 2 are sealed, 3 and 4 are growing. Not loaded."""
    create(stub, name, KEY, vector(), NUMBER, dynamic=True, indexed=["vec"])
    insert(stub, name, range(3), colors(range(3)))
    flush(stub, name)
    insert(stub, name, range(3, 5), colors(range(3, 5)))
    return name


def partial_c1(stub: Any, name: str) -> str:
    """The dynamic C1 loaded as the seed does: [id, vec], without the dynamic field."""
    return loaded(stub, dynamic_c1(stub, name), load_fields=["id", "vec"], skip_load_dynamic_field=True)


def two_vectors(stub: Any, name: str, *, indexed: Sequence[str] = ("v0",)) -> str:
    """Vectors v0 and v1, three sealed rows."""
    create(stub, name, KEY, vector("v0"), vector("v1"), indexed=indexed)
    points = [[float(i), 0.0, 0.0, 0.0] for i in range(3)]
    columns = [scalars("id", schema_pb2.Int64, range(3)), vectors("v0", points), vectors("v1", points)]
    assert_ok(stub.Insert(insert_request(name, 3, *columns)))
    flush(stub, name)
    return name


def partition_key_collection(stub: Any, name: str) -> str:
    key = field("pk1", schema_pb2.Int64, is_partition_key=True)
    return create(stub, name, KEY, vector(), key, indexed=["vec"])


P1, P2 = [0, 1, 2], [10, 11]


def two_partitions(stub: Any, name: str) -> str:
    """C1 with p1 (rows 0, 1, 2) and p2 (rows 10, 11), nothing in `_default`. Not loaded."""
    c1(stub, name, rows=0)
    for partition, ids in (("p1", P1), ("p2", P2)):
        create_partition(stub, name, partition)
        insert(stub, name, ids, partition=partition)
    return name


def create_partition(stub: Any, name: str, partition: str) -> None:
    request = milvus_pb2.CreatePartitionRequest(collection_name=name, partition_name=partition)
    assert_ok(stub.CreatePartition(request))


def partition_id(stub: Any, name: str, partition: str) -> int:
    shown = assert_ok(stub.ShowPartitions(milvus_pb2.ShowPartitionsRequest(collection_name=name)))
    by_name = dict(zip(shown.partition_names, shown.partitionIDs, strict=True))
    number: int = by_name[partition]
    return number
