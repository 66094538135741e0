"""Arrays of structs are not served: each call that asks for them is refused with a sentence, and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from conftest import Server
from grpc_calls import assert_refused, create_request, field, scalars, vectors
from pymilvus import AnnSearchRequest, DataType, MilvusClient, MilvusException, RRFRanker
from pymilvus.client.embedding_list import EmbeddingList
from pymilvus.grpc_gen import milvus_pb2, schema_pb2

NAME = "plain"
NO_FIELD = "failed to get field schema by name: fieldName(st[a]) not found"
UNSUPPORTED = "is not supported by this version of Milvine"


@pytest.fixture
def plain(client: MilvusClient) -> Iterator[MilvusClient]:
    """The client of a collection without structs, which no call may change."""
    client.create_collection(NAME, dimension=4, metric_type="COSINE", consistency_level="Strong")
    client.insert(NAME, [{"id": i, "vector": [i, 1, 0, 0]} for i in range(3)])
    yield client
    assert client.query(NAME, output_fields=["count(*)"])[0]["count(*)"] == 3
    client.drop_collection(NAME)


def refusal(code: int, call: Callable[[], object]) -> str:
    with pytest.raises(MilvusException) as refused:
        call()
    assert refused.value.code == code
    return str(refused.value.message)


def structs(client: MilvusClient) -> Any:
    schema = client.create_struct_field_schema()
    schema.add_field("a", DataType.VARCHAR, max_length=10)
    schema.add_field("v", DataType.FLOAT_VECTOR, dim=4)
    return schema


def test_a_schema_with_structs_is_refused(plain: MilvusClient) -> None:
    schema = plain.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    array = {"datatype": DataType.ARRAY, "element_type": DataType.STRUCT, "max_capacity": 10}
    schema.add_field("st", struct_schema=structs(plain), **array)
    assert f"a struct field {UNSUPPORTED}" in refusal(1100, lambda: plain.create_collection("st", schema=schema))
    assert not plain.has_collection("st")


@pytest.mark.parametrize(
    ("data_type", "element_type", "text"),
    [
        (200, 0, f"data type ArrayOfStruct of field st {UNSUPPORTED}"),
        (201, 0, f"data type Struct of field st {UNSUPPORTED}"),
        (106, 101, f"data type ArrayOfVector of field st {UNSUPPORTED}"),
        (22, 201, "element type Struct is not supported"),
        (22, 101, "element type FloatVector is not supported"),
    ],
)
def test_their_types_are_refused_as_plain_fields(server: Server, data_type: int, element_type: int, text: str) -> None:
    fields = [
        field("id", schema_pb2.Int64, primary=True),
        field("vector", schema_pb2.FloatVector, dim=4),
        field("st", data_type, max_capacity=4),
    ]
    fields[2].element_type = element_type
    assert_refused(server.stub.CreateCollection(create_request("st", fields)), 1100, text)


def test_fields_and_rows_of_structs_are_refused(server: Server, plain: MilvusClient) -> None:
    def added() -> object:
        return plain.add_collection_struct_field(
            NAME, "st", struct_schema=structs(plain), max_capacity=4, nullable=True
        )

    assert f"a struct field {UNSUPPORTED}" in refusal(10, added)
    for member in ("struct_arrays", "vector_array"):
        sent = schema_pb2.FieldData(type=200 if member == "struct_arrays" else 106, field_name="st")
        if member == "struct_arrays":
            sent.struct_arrays.fields.add(field_name="a", type=schema_pb2.Array)
        else:
            sent.vectors.vector_array.dim = 4
        rows = [scalars("id", schema_pb2.Int64, [9]), vectors("vector", [[1, 0, 0, 0]]), sent]
        request = milvus_pb2.InsertRequest(collection_name=NAME, num_rows=1, fields_data=rows)
        answer = server.stub.Insert(request).status
        assert_refused(answer, 1100, f"field st: {member} {UNSUPPORTED}")


def test_lists_of_vectors_are_no_queries_and_their_metrics_no_metrics(plain: MilvusClient) -> None:
    queries = EmbeddingList()
    queries.add(np.array([1, 0, 0, 0], np.float32))
    wrong = refusal(1100, lambda: plain.search(NAME, [queries], anns_field="vector", limit=1))
    assert "vector type must be the same, field vector" in wrong
    assert NO_FIELD in refusal(1100, lambda: plain.search(NAME, [queries], anns_field="st[a]", limit=1))
    params = {"metric_type": "MAX_SIM_COSINE"}
    searched = refusal(1100, lambda: plain.search(NAME, [[1, 0, 0, 0]], search_params=params, limit=1))
    assert "metric type not match" in searched
    index = plain.prepare_index_params("vector", index_type="HNSW", metric_type="MAX_SIM_COSINE")
    plain.release_collection(NAME)
    plain.drop_index(NAME, "vector")
    text = "float vector index does not support metric type: MAX_SIM_COSINE"
    assert text in refusal(1100, lambda: plain.create_index(NAME, index))
    plain.create_index(NAME, plain.prepare_index_params("vector", index_type="FLAT", metric_type="COSINE"))
    plain.load_collection(NAME)


def test_hits_of_hybrid_searches_are_no_elements(plain: MilvusClient) -> None:
    scope = {"params": {"element_scope": {"collapse": {"strategy": "max"}}}}
    searches = [AnnSearchRequest([[1, 0, 0, 0]], "vector", scope, 2)]
    text = "element_scope is only supported for element-level search on struct array vector sub-fields"
    assert text in refusal(1100, lambda: plain.hybrid_search(NAME, searches, RRFRanker(), 2))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("st[a] == 1", f"struct field not found: st[a], error: {NO_FIELD}"),
        ("st[0][a] == 1", f"struct field not found: st[a], error: {NO_FIELD}"),
        ("array_length(st[a]) == 1", f"struct field not found: st[a], error: {NO_FIELD}"),
        ("array_contains(st[a], 1)", f"struct field not found: st[a], error: {NO_FIELD}"),
        (
            "element_filter(st, $[a] > 1)",
            f"cannot parse element expression: $[a]>1, error: array field not found: st[a], error: {NO_FIELD}",
        ),
        (
            "id > 0 and MATCH_ANY(st, $[a] > 1)",
            f"cannot parse predicate expression: $[a]>1, error: array field not found: st[a], error: {NO_FIELD}",
        ),
        ("match_least(st, $[a] > 1, threshold=2)", f"array field not found: st[a], error: {NO_FIELD}"),
        ("MATCH_LEAST(st, $[a] > 1, threshold=0)", "count in MATCH_LEAST must be positive, got: 0"),
        ("MATCH_ALL(st, $[a] > 1, threshold=2)", "invalid expression"),
        ("MATCH_MOST(st, $[a] > 1)", "invalid expression"),
        ("element_filter(st, id > 1)", "array field not found: st"),
        ("MATCH_ALL(st, id > 1)", "invalid predicate expression in MATCH_ALL"),
        ("element_filter(st, MATCH_ANY(b, $[a] > 1))", "nested MATCH_ANY is not supported"),
        ("$[a] > 1", "$[a] syntax can only be used inside ElementFilter or MATCH_*"),
    ],
)
def test_filters_over_structs_are_refused_as_for_a_collection_without_them(
    plain: MilvusClient, text: str, reason: str
) -> None:
    assert reason in refusal(1100, lambda: plain.query(NAME, filter=text, limit=5))
    assert reason in refusal(1100, lambda: plain.search(NAME, [[1, 0, 0, 0]], filter=text, limit=5))
