"""Refusals with their raw code and text; refused writes leave nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from grpc_calls import (
    assert_ok,
    assert_refused,
    count,
    insert_request,
    query_request,
    scalars,
    search_request,
    status_of,
    vectors,
)
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2
from sample_collections import add_index, c1_rows, make_c1

ORIGIN = [0.0, 0.0, 0.0, 0.0]
IN_RANGE = "it should be in range [1, 16384], but got"


@pytest.fixture
def loaded(client: MilvusClient, collection_name: str) -> str:
    make_c1(client, collection_name, load=True)
    client.insert(collection_name, c1_rows(5))
    return collection_name


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"limit": 0}, f"topk [0] is invalid, {IN_RANGE} 0"),
        ({"limit": -1}, f"topk [-1] is invalid, {IN_RANGE} -1"),
        ({"limit": 16385}, f"topk [16385] is invalid, {IN_RANGE} 16385"),
        ({"limit": "ten"}, "topk [ten] is invalid"),
        ({"offset": -1}, "offset [-1] is invalid, it should be in range [1, 16384], but got -1"),
        ({"offset": 16385}, f"offset [16385] is invalid, {IN_RANGE} 16385"),
        ({"limit": 16000, "offset": 385}, f"offset+limit [16385] is invalid, {IN_RANGE} 16385"),
        ({"round_decimal": 7}, "round_decimal [7] is invalid, should be -1 or an integer in range [0, 6]"),
        ({"anns_field": "nope"}, "fieldName(nope) not found"),
        ({"anns_field": "a"}, "field (a) to search is not of vector data type"),
        ({"metric_type": "IP"}, "metric type not match: invalid parameter[expected=L2][actual=IP]"),
        ({"metric_type": "SILLY"}, "SILLY"),
        ({"filter_text": "a >"}, "failed to create query plan: cannot parse expression: a >"),
        ({"filter_text": "nope > 1"}, "failed to create query plan: cannot parse expression: nope > 1"),
        ({"output_fields": ["nope"]}, "field nope not exist"),
        ({"params": {"range_filter": 1.0}}, "range_filter requires radius to be set"),
    ],
)
def test_bad_search_is_refused(stub: Any, loaded: str, options: dict[str, Any], text: str) -> None:
    request = search_request(loaded, [ORIGIN], **{"limit": 3, **options})
    assert_refused(stub.Search(request), 1100, text, legacy=5)


def test_too_many_queries_in_a_search_are_refused(stub: Any, loaded: str) -> None:
    request = search_request(loaded, [ORIGIN] * 16385, 1)
    text = "nq [16385] is invalid, nq (number of search vector per search request) should be in range [1, 16384]"
    assert_refused(stub.Search(request), 1100, text)
    request = search_request(loaded, [ORIGIN] * 16384, 1)
    assert len(assert_ok(stub.Search(request)).results.topks) == 16384


def test_a_search_without_queries_is_refused(stub: Any, loaded: str) -> None:
    assert_refused(stub.Search(search_request(loaded, [], 1)), 1100, "nq [0] is invalid")


def test_the_largest_limit_is_served(client: MilvusClient, loaded: str) -> None:
    assert len(client.search(loaded, [ORIGIN], limit=16384)[0]) == 5


def test_query_vector_of_another_dimension_is_refused(stub: Any, loaded: str) -> None:
    text = "vector dimension mismatch, expected vector size(byte) 16, actual 12"
    assert_refused(stub.Search(search_request(loaded, [[0.0, 0.0, 0.0]], 1)), 1100, text)


def test_query_vector_of_another_kind_is_refused(stub: Any, loaded: str) -> None:
    request = search_request(loaded, [ORIGIN], 1)
    holder = common_pb2.PlaceholderValue(tag="$0", type=common_pb2.PlaceholderType.BinaryVector, values=[b"\0" * 16])
    request.placeholder_group = common_pb2.PlaceholderGroup(placeholders=[holder]).SerializeToString()
    assert_refused(stub.Search(request), 1100, "vector type must be the same")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=["nan", "inf", "-inf"])
def test_a_search_with_nan_or_infinity_does_not_harm_the_server(
    client: MilvusClient, stub: Any, loaded: str, value: float
) -> None:
    """Any answer is allowed; the next search must be right."""
    stub.Search(search_request(loaded, [[value, 0.0, 0.0, 0.0]], 3))
    assert [h["id"] for h in client.search(loaded, [ORIGIN], limit=2)[0]] == [0, 1]


@pytest.mark.parametrize("partial", ["5", 0, -3, "x", 2**40], ids=str)
def test_graph_effort_must_be_a_sensible_integer(
    client: MilvusClient, stub: Any, collection_name: str, partial: Any
) -> None:
    make_c1(client, collection_name, index=False)
    add_index(client, collection_name, "vec", "HNSW", "L2")
    client.load_collection(collection_name)
    answered = stub.Search(search_request(collection_name, [ORIGIN], 3, params={"ef": partial}))
    if partial == "5":
        assert_ok(answered)
    else:
        assert_refused(answered, 65535, "param 'ef'")


def test_unknown_search_hints_are_refused(client: MilvusClient, stub: Any, collection_name: str) -> None:
    make_c1(client, collection_name, load=True)
    for hint in ("", "disable", "iterative_filter"):
        assert_ok(stub.Search(search_request(collection_name, [ORIGIN], 3, params={}, hints=hint)))
    refused = stub.Search(search_request(collection_name, [ORIGIN], 3, params={}, hints="nope"))
    assert_refused(refused, 65535, "failed to search: hints: nope not supported")


def test_graph_effort_smaller_than_the_limit_is_refused(client: MilvusClient, stub: Any, collection_name: str) -> None:
    make_c1(client, collection_name, index=False)
    add_index(client, collection_name, "vec", "HNSW", "L2")
    client.load_collection(collection_name)
    answered = stub.Search(search_request(collection_name, [ORIGIN], 100, params={"ef": 10}))
    assert_refused(answered, 65535, "ef(10) should be larger than k(100)")


@pytest.mark.parametrize(
    ("filter_text", "output_fields", "params", "text"),
    [
        ("", ["id"], {}, "empty expression should be used with limit"),
        ("true", ["id"], {}, "empty expression should be used with limit"),
        ("1 == 1 or id > 0", ["id"], {}, "empty expression should be used with limit"),
        ("id > 0", ["id"], {"limit": 0}, "limit [0] is invalid, should be greater than 0"),
        ("id > 0", ["id"], {"limit": 5, "offset": -1}, "offset [-1] is invalid, should be gte than 0"),
        ("id > 0", ["id"], {"limit": 16385}, "(offset+limit) should be in range [1, 16384], but got 16385"),
        ("id > 0", ["id"], {"limit": 16384, "offset": 1}, "(offset+limit) should be in range [1, 16384]"),
        ("", ["count(*)"], {"limit": 5}, "count entities with pagination is not allowed"),
        ("id >", ["id"], {}, "failed to create query plan: cannot parse expression: id >"),
        ("id > 0", ["nope"], {}, "field nope not exist"),
    ],
)
def test_bad_query_is_refused(
    stub: Any, loaded: str, filter_text: str, output_fields: list[str], params: dict[str, object], text: str
) -> None:
    assert_refused(stub.Query(query_request(loaded, filter_text, output_fields, **params)), 1100, text, legacy=5)


@pytest.mark.parametrize(
    "call",
    [
        lambda stub, name: stub.Search(search_request(name, [ORIGIN], 1)),
        lambda stub, name: stub.Query(query_request(name, "id > 0")),
        lambda stub, name: stub.Insert(insert_request(name, 1, scalars("id", schema_pb2.Int64, [1]))),
        lambda stub, name: stub.Delete(milvus_pb2.DeleteRequest(collection_name=name, expr="id in [1]")),
        lambda stub, name: stub.Flush(milvus_pb2.FlushRequest(collection_names=[name])),
        lambda stub, name: stub.DescribeIndex(milvus_pb2.DescribeIndexRequest(collection_name=name)),
        lambda stub, name: stub.DropIndex(milvus_pb2.DropIndexRequest(collection_name=name, field_name="vec")),
        lambda stub, name: stub.GetCollectionStatistics(
            milvus_pb2.GetCollectionStatisticsRequest(collection_name=name)
        ),
    ],
    ids=["search", "query", "insert", "delete", "flush", "describe index", "drop index", "statistics"],
)
def test_unknown_collection_is_refused_by_every_call(
    stub: Any, collection_name: str, call: Callable[[Any, str], Any]
) -> None:
    text = f"collection not found[database=default][collection={collection_name}]"
    refused = assert_refused(call(stub, collection_name), 100, text, legacy=4)
    assert status_of(refused).extra_info["is_input_error"] == "true"


KEYS = scalars("id", schema_pb2.Int64, [1, 2])
VECTORS = vectors("vec", [ORIGIN, ORIGIN])
NUMBERS = scalars("n", schema_pb2.Int8, [1, 2])
STRINGS = scalars("s", schema_pb2.VarChar, ["a", "b"])
REALS = scalars("x", schema_pb2.Double, [0.5, 1.5])
FLOATS = scalars("f", schema_pb2.Float, [0.5, 1.5])
JSONS = scalars("j", schema_pb2.JSON, [b"{}", b"1"])
GOOD = {"id": KEYS, "vec": VECTORS, "n": NUMBERS, "s": STRINGS, "x": REALS, "f": FLOATS, "j": JSONS}


def _meta(*texts: bytes) -> Any:
    data = scalars("", schema_pb2.JSON, texts)
    data.is_dynamic = True
    return data


@pytest.fixture
def typed(client: MilvusClient, collection_name: str) -> str:
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    schema.add_field("n", DataType.INT8)
    schema.add_field("s", DataType.VARCHAR, max_length=6)
    schema.add_field("x", DataType.DOUBLE)
    schema.add_field("f", DataType.FLOAT)
    schema.add_field("j", DataType.JSON)
    client.create_collection(collection_name, schema=schema)
    add_index(client, collection_name, "vec")
    client.load_collection(collection_name)
    return collection_name


def test_the_valid_batch_that_the_invalid_ones_are_made_from_is_accepted(stub: Any, typed: str) -> None:
    assert assert_ok(stub.Insert(insert_request(typed, 2, *GOOD.values()))).insert_cnt == 2
    assert count(stub, typed) == 2


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"n": None}, "fieldSchema(n) has no corresponding fieldData pass in"),
        ({"vec": None}, "fieldSchema(vec) has no corresponding fieldData pass in"),
        ({"id": None}, "fieldSchema(id) has no corresponding fieldData pass in"),
        ({"vec": vectors("vec", [[0.0] * 5] * 2)}, "the length(10) of float data should divide the dim(4)"),
        ({"vec": vectors("vec", [[0.0] * 8] * 2)}, "the dim (8) of field data(vec) is not equal to schema dim (4)"),
        ({"vec": vectors("vec", [ORIGIN])}, "the num_rows (1) of field (vec) is not equal to passed num_rows (2)"),
        (
            {"n": scalars("n", schema_pb2.Int8, [1])},
            "the num_rows (1) of field (n) is not equal to passed num_rows (2)",
        ),
        ({"vec": vectors("vec", [ORIGIN, [math.nan, 0, 0, 0]])}, "value 'NaN' is not a number or infinity"),
        ({"vec": vectors("vec", [[math.inf, 0, 0, 0], ORIGIN])}, "value '+Inf' is not a number or infinity"),
        ({"x": scalars("x", schema_pb2.Double, [0.0, math.nan])}, "value 'NaN' is not a number or infinity"),
        ({"f": scalars("f", schema_pb2.Float, [-math.inf, 0.0])}, "value '-Inf' is not a number or infinity"),
        ({"n": scalars("n", schema_pb2.Int8, [1, 128])}, "the 1th element (128) out of range: [-128, 127]"),
        (
            {"s": scalars("s", schema_pb2.VarChar, ["ok", "日本語"])},
            "length of varchar field s exceeds max length, row number: 1, length: 9, max length: 6",
        ),
        ({"s": scalars("s", schema_pb2.Int64, [1, 2])}, "field 's' is illegal, array type mismatch"),
        ({"n": scalars("n", schema_pb2.VarChar, ["1", "2"])}, "field 'n' is illegal, array type mismatch"),
        ({"x": scalars("x", schema_pb2.Float, [1, 2])}, "field 'x' is illegal, array type mismatch"),
        ({"vec": scalars("vec", schema_pb2.Float, [1, 2])}, "float vector field 'vec' is illegal"),
        ({"j": scalars("j", schema_pb2.JSON, [b"{", b"1"])}, "not JSON"),
        ({"j": scalars("j", schema_pb2.JSON, [b"1", b'"' + b"x" * 65536 + b'"'])}, "exceeds max length (65536)"),
        ({"other": scalars("other", schema_pb2.Int64, [1, 2])}, "fieldName other not exist in collection schema"),
        ({"again": NUMBERS}, "duplicated field n found"),
        ({"meta": _meta(b"{}", b"[1]")}, "only json map is supported"),
        ({"meta": _meta(b"{}", b'{"n": 1}')}, "dynamic field name cannot include the static field name: n"),
        ({"meta": _meta(b"{}", b'{"$meta": 1}')}, "cannot set json key to: $meta"),
    ],
)
def test_bad_insert_is_refused_and_writes_nothing(
    client: MilvusClient, stub: Any, typed: str, changed: dict[str, Any], text: str
) -> None:
    columns = [column for column in {**GOOD, **changed}.values() if column is not None]
    assert_refused(stub.Insert(insert_request(typed, 2, *columns)), 1100, text, legacy=5)
    assert count(stub, typed) == 0
    client.flush(typed)
    assert client.get_collection_stats(typed) == {"row_count": 0}
    assert_ok(stub.Insert(insert_request(typed, 2, *GOOD.values())))
    assert count(stub, typed) == 2


def test_insert_of_no_rows_is_refused(stub: Any, typed: str) -> None:
    empty = [scalars("id", schema_pb2.Int64, [])]
    assert_refused(stub.Insert(insert_request(typed, 0, *empty)), 1100, "num_rows should be greater than 0")


@pytest.mark.parametrize("valid", [[True, False], [True, True]], ids=["a null", "no null"])
def test_valid_data_of_a_field_that_is_not_nullable_is_refused(stub: Any, typed: str, valid: list[bool]) -> None:
    numbers = scalars("n", schema_pb2.Int8, [1, 2])
    numbers.valid_data.extend(valid)
    columns = [*(column for name, column in GOOD.items() if name != "n"), numbers]
    assert_refused(
        stub.Insert(insert_request(typed, 2, *columns)), 1100, "the length of valid_data of field(n) is wrong"
    )
    assert count(stub, typed) == 0


def test_dynamic_values_without_a_dynamic_field_are_refused(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    make_c1(client, collection_name, load=True)
    columns = [KEYS, VECTORS, scalars("a", schema_pb2.Int64, [1, 2]), _meta(b"{}", b'{"k": 1}')]
    refused = stub.Insert(insert_request(collection_name, 2, *columns))
    assert_refused(refused, 1100, "without dynamic schema enabled")
    assert count(stub, collection_name) == 0


def test_keys_may_not_be_given_with_automatic_ids(client: MilvusClient, stub: Any, collection_name: str) -> None:
    schema = client.create_schema(auto_id=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    client.create_collection(collection_name, schema=schema)
    refused = stub.Insert(insert_request(collection_name, 2, KEYS, VECTORS))
    assert_refused(refused, 1100, "more fieldData has pass in: invalid parameter[expected=")
    assert_ok(stub.Insert(insert_request(collection_name, 2, VECTORS)))
    assert client.get_collection_stats(collection_name) == {"row_count": 2}


def test_insert_into_an_unknown_partition_is_refused(stub: Any, typed: str) -> None:
    request = insert_request(typed, 2, *GOOD.values())
    request.partition_name = "nope"
    assert_refused(stub.Insert(request), 200, "partition not found[partition=nope]", legacy=15)
    assert count(stub, typed) == 0


def test_reading_an_unknown_partition_is_refused(stub: Any, loaded: str) -> None:
    """PT-20"""
    search = search_request(loaded, [ORIGIN], 1)
    search.partition_names.append("nope")
    assert_refused(stub.Search(search), 1100, "partition name nope not found")
    query = query_request(loaded, "id > 0")
    query.partition_names.append("nope")
    assert_refused(stub.Query(query), 1100, "partition name nope not found")


def test_the_default_partition_may_be_named(stub: Any, loaded: str) -> None:
    search = search_request(loaded, [ORIGIN], 2)
    search.partition_names.append("_default")
    assert list(assert_ok(stub.Search(search)).results.ids.int_id.data) == [0, 1]
