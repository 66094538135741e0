"""Ordered and aggregating searches by gRPC and REST: refusals, types, texts. Random ones: test_composed_reads.py."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Server
from grpc_calls import assert_refused, pairs, search_request
from pymilvus import DataType, Function, FunctionType, MilvusClient, MilvusException
from pymilvus.grpc_gen import common_pb2, milvus_pb2
from rest_client import Rest

Spec = common_pb2.SearchAggregationSpec
ROWS = 9


@pytest.fixture(scope="module")
def name(_shared_client: MilvusClient) -> Iterator[str]:
    """Three brands with prices; the last row has no brand."""
    client, made = _shared_client, f"buckets_{uuid.uuid4().hex[:8]}"
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("brand", DataType.VARCHAR, max_length=9, nullable=True)
    schema.add_field("price", DataType.INT32)
    schema.add_field("weight", DataType.FLOAT)
    schema.add_field("doc", DataType.JSON)
    schema.add_field("tags", DataType.ARRAY, element_type=DataType.INT64, max_capacity=4)
    indexes = client.prepare_index_params()
    indexes.add_index("vec", index_type="FLAT", metric_type="L2")
    client.create_collection(made, schema=schema, index_params=indexes)
    client.insert(
        made,
        [
            {
                "id": i,
                "vec": [float(i), 0.0],
                "brand": None if i == ROWS - 1 else "abc"[i % 3],
                "price": 10 - i,
                "weight": 0.5 * i,
                "doc": {"n": {"m": i % 4}},
                "tags": [i, 2 * i],
                "own": i % 2,
            }
            for i in range(ROWS)
        ],
    )
    yield made
    client.drop_collection(made)


def _search(stub: Any, name: str, spec: Any = None, **options: Any) -> Any:
    request = search_request(name, [[0.0, 0.0]], limit=options.pop("limit", 5), **options)
    if spec is not None:
        request.search_aggregation.CopyFrom(spec)
    return stub.Search(request)


@pytest.mark.parametrize(
    ("order", "text"),
    [
        ("nowhere[", "invalid dynamic field key 'nowhere[': "),
        ("vec:asc", "order_by field 'vec' has unsortable type FloatVector; supported types: bool, int8/16/32/64, "),
        ("doc", "order_by field 'doc' has unsortable type JSON; supported types: "),
        ("brand['a']", "order_by field 'brand['a']' has brackets but is not a JSON type"),
        ("price:Up", "invalid order direction 'Up' for field 'price', expected 'asc' or 'desc'"),
        ("price:asc:First", "invalid null ordering 'First', expected 'nulls_first' or 'nulls_last'"),
        ("price:asc:nulls_last:x", "too many order_by field options in 'price:asc:nulls_last:x'"),
        (":asc", "empty field name in order_by_fields"),
        ("doc['n'", "order_by field 'doc['n'' does not exist in collection schema"),
    ],
)
def test_a_bad_order_is_refused_in_milvus_words(name: str, stub: Any, order: str, text: str) -> None:
    answer = _search(stub, name, order_by_fields=order)
    if "does not exist" in text:
        assert answer.status.code == 1100
    else:
        assert_refused(answer.status, 1100, text)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"group_by_fields": "brand,price"}, "order_by_fields is not supported with multi-field group_by_fields"),
        ({"iterator": "True"}, "order_by is not supported when using search iterator: invalid parameter"),
    ],
)
def test_an_order_that_milvus_does_not_combine_is_refused(
    name: str, stub: Any, options: dict[str, Any], text: str
) -> None:
    assert_refused(_search(stub, name, order_by_fields="price", **options).status, 1100, text)


def test_an_order_and_a_ranker_exclude_each_other(name: str, client: MilvusClient, stub: Any) -> None:
    params = {"reranker": "decay", "function": "exp", "origin": 1, "scale": 2}
    ranker = Function("f", FunctionType.RERANK, ["price"], params=params)
    with pytest.raises(MilvusException, match="order_by and function rerank cannot be used together"):
        client.search(name, [[0.0, 0.0]], limit=3, ranker=ranker, order_by_fields=[{"field": "price"}])
    part = search_request(name, [[0.0, 0.0]], 3)
    request = milvus_pb2.HybridSearchRequest(
        collection_name=name, requests=[part], rank_params=pairs({"limit": 2, "order_by_fields": "price"})
    )
    assert_refused(stub.HybridSearch(request).status, 1100, "order_by is not supported for hybrid search")


def test_values_in_json_fields_order_hits(name: str, client: MilvusClient) -> None:
    for order, wanted in (("doc['n']['m']:desc", [3, 2, 6, 1, 5]), ("own:desc, price", [5, 3, 1, 6, 2])):
        found = client.search(name, [[0.0, 0.0]], limit=5, order_by_fields=order, filter="id in [1, 2, 3, 5, 6, 7]")
        assert [hit["id"] for hit in found[0]] == wanted


def _spec(**parts: Any) -> Any:
    return Spec(**{"fields": ["brand"], "size": 2, **parts})


def _nested(levels: int) -> Any:
    names = ["brand", "price", "id", "id", "id"]
    spec = None
    for place in reversed(range(levels)):
        spec = Spec(fields=[names[place]], size=1, sub_aggregation=spec)
    return spec


def _metric(operation: str, field: str) -> Any:
    return {"m": common_pb2.MetricAggSpec(op=operation, field_name=field)}


def _top(field: str, size: int = 1, direction: str = "") -> Any:
    return common_pb2.TopHitsSpec(size=size, sort=[common_pb2.SortSpec(field_name=field, direction=direction)])


JSON_TEXT = "JSON / dynamic fields are not yet supported with search_aggregation"


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (Spec(size=2), "group_by level has no fields"),
        (_nested(5), "search_aggregation nesting exceeds max 4 levels"),
        (_spec(size=-1), "search_aggregation size must be non-negative"),
        (_spec(search_size=-1), "search_aggregation search_size must be non-negative"),
        (_spec(search_size=1), "search_aggregation search_size must be greater than or equal to size"),
        (_spec(size=10_001), "number of search_aggregation result entries is too large"),
        (_spec(size=2_001, top_hits=_top("_score", 5)), "number of search_aggregation result entries is too large"),
        (_spec(fields=["weight"]), 'group_by field "weight": FLOAT / DOUBLE fields are not supported'),
        (_spec(fields=["doc"]), f'group_by field "doc": {JSON_TEXT}'),
        (_spec(fields=["own"]), f'group_by field "own": {JSON_TEXT}'),
        (_spec(fields=[" "]), 'invalid group_by field " ": field is empty'),
        (_spec(fields=["brand", "brand"]), 'duplicated group_by field "brand" in one level'),
        (
            _spec(sub_aggregation=Spec(fields=["brand"], size=1)),
            'duplicated group_by field "brand" across levels',
        ),
        (_spec(metrics=_metric("median", "price")), 'invalid metric "m": unsupported metric op "median"'),
        (_spec(metrics=_metric("sum", "")), 'invalid metric "m": metric field_name is empty'),
        (_spec(metrics=_metric("sum", "*")), "invalid metric \"m\": field_name '*' only supports count op"),
        (
            _spec(metrics=_metric("avg", "brand")),
            'invalid metric "m": aggregation operator avg does not support data type VarChar',
        ),
        (_spec(metrics=_metric("count", "own")), JSON_TEXT),
        (_spec(order=[common_pb2.OrderSpec(key="x")]), 'order key "x" is neither reserved key nor metric alias'),
        (
            _spec(order=[common_pb2.OrderSpec(key="_key", direction="up")]),
            'invalid order direction for key "_key": direction must be asc or desc',
        ),
        (_spec(top_hits=_top("_score", -1)), "top_hits size must be non-negative"),
        (_spec(top_hits=_top("")), "top_hits.sort field_name is empty"),
        (_spec(top_hits=_top("price", 1, "up")), 'invalid top_hits.sort direction for "price": direction must be'),
        (_spec(top_hits=_top("doc['n']")), "top_hits.sort JSON path is not yet supported: \"doc['n']\""),
        (_spec(top_hits=_top("own")), f'top_hits.sort field "own": {JSON_TEXT}'),
        (_spec(top_hits=_top("tags")), 'top_hits.sort field "tags" has unsortable type Array'),
    ],
)
def test_a_bad_aggregation_is_refused_in_milvus_words(name: str, stub: Any, spec: Any, text: str) -> None:
    status = _search(stub, name, spec).status
    assert status.code == 1100
    assert text in status.reason


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"offset": 1}, "offset is not supported with search_aggregation"),
        ({"iterator": "True"}, "search iterator is not supported with search_aggregation"),
        ({"group_by_field": "brand"}, "group_by_field and search_aggregation cannot be used simultaneously"),
        ({"group_by_fields": "brand"}, "group_by_fields and search_aggregation cannot be used simultaneously"),
        ({"order_by_fields": "brand"}, "order_by_fields and search_aggregation cannot be used simultaneously"),
    ],
)
def test_what_does_not_go_with_an_aggregation_is_refused(
    name: str, stub: Any, options: dict[str, Any], text: str
) -> None:
    assert_refused(_search(stub, name, _spec(), **options).status, 1100, text)


def test_a_hybrid_search_has_no_buckets(name: str, stub: Any) -> None:
    part = search_request(name, [[0.0, 0.0]], 3)
    part.search_aggregation.CopyFrom(_spec())
    request = milvus_pb2.HybridSearchRequest(
        collection_name=name, requests=[part], rank_params=pairs({"limit": 2, "strategy": "rrf"})
    )
    text = "search aggregation is not supported for hybrid search"
    assert_refused(stub.HybridSearch(request).status, 1100, text)


def test_buckets_hold_typed_keys_metrics_and_fields_of_hits(name: str, stub: Any) -> None:
    metrics = {
        "sum": common_pb2.MetricAggSpec(op="SUM", field_name="price"),
        "max": common_pb2.MetricAggSpec(op="max", field_name="brand"),
        "far": common_pb2.MetricAggSpec(op="avg", field_name="_score"),
    }
    spec = _spec(size=4, metrics=metrics, top_hits=common_pb2.TopHitsSpec(size=2))
    outputs = ["weight", "doc", "tags", "vec", "own"]
    answer = _search(stub, name, spec, output_fields=outputs)
    assert answer.status.code == 0, answer.status
    results = answer.results
    assert (results.num_queries, list(results.topks), list(results.agg_topks)) == (1, [0], [4])
    keys = [[(entry.field_name, entry.WhichOneof("value")) for entry in bucket.key] for bucket in results.agg_buckets]
    assert keys == [[("brand", "string_val")]] * 3 + [[("brand", None)]]
    first, last = results.agg_buckets[0], results.agg_buckets[-1]
    assert first.count == 2
    assert (first.metrics["sum"].int_val, first.metrics["max"].string_val) == (10 + 7, "a")
    assert first.metrics["far"].double_val == (0 + 9) / 2
    assert sorted(last.metrics) == ["far", "sum"], "there is no maximum of NULLs"
    assert [hit.int_pk for hit in first.hits] == [0, 3]
    fields = {field.field_name: field for field in first.hits[1].fields}
    assert (fields["weight"].float_val, fields["doc"].bytes_val) == (1.5, b'{"n":{"m":3}}')
    assert (fields["tags"].string_val, fields["vec"].string_val) == ("[3,6]", "[3.0,0.0]")
    assert fields["$meta"].bytes_val == b'{"own":1}'


def test_an_empty_collection_has_no_buckets(client: MilvusClient, stub: Any, collection_name: str) -> None:
    client.create_collection(collection_name, dimension=2, vector_field_name="vec", metric_type="L2")
    spec = Spec(fields=["id"], size=2, metrics=_metric("max", "id"), top_hits=_top("_score"))
    for _ in range(2):
        results = _search(stub, collection_name, spec).results
        assert (list(results.agg_topks), list(results.agg_buckets)) == ([0], [])
        client.insert(collection_name, [{"id": 1, "vec": [0.0, 0.0]}])
        client.delete(collection_name, ids=[1])


def test_rest_answers_buckets_as_milvus_does(name: str, server: Server) -> None:
    body = {
        "collectionName": name,
        "data": [[0.0, 0.0], [9.0, 0.0]],
        "annsField": "vec",
        "outputFields": ["price"],
        "searchAggregation": {
            "fields": ["brand"],
            "size": 2,
            "metrics": {"n": {"op": "count", "fieldName": "*"}, "low": {"op": "min", "fieldName": "price"}},
            "order": [{"key": "_key", "direction": "desc"}],
            "topHits": {"size": 2, "sort": [{"fieldName": "price", "direction": "asc"}]},
            "subAggregation": {"fields": ["price"], "size": 1},
        },
    }
    answer = Rest(server.uri).post("entities/search", body, Accept_Type_Allow_Int64="false")
    assert (answer["code"], answer["aggTopks"]) == (0, [2, 2])
    bucket = answer["data"][0]["buckets"][0]
    assert [key["fieldName"] for key in bucket["key"]] == ["brand"]
    assert bucket["count"] == str(len(bucket["hits"])) == bucket["metrics"]["n"]
    assert bucket["metrics"]["low"] == str(bucket["hits"][0]["price"])
    assert set(bucket["hits"][0]) == {"id", "price", "distance"}
    assert [len(sub["hits"]) for sub in bucket["subGroups"]] == [0]
    exact = Rest(server.uri).post("entities/search", body, Accept_Type_Allow_Int64="true")
    assert isinstance(exact["data"][0]["buckets"][0]["count"], int)


BAD_REST: list[tuple[dict[str, Any], str]] = [
    ({"searchAggregation": {"size": 1}}, "searchAggregation.fields must be non-empty"),
    (
        {"searchAggregation": {"fields": [" "], "size": 1}},
        "searchAggregation.fields must contain non-empty field names",
    ),
    ({"searchAggregation": {"fields": ["brand"]}}, "searchAggregation.size must be positive"),
    ({"offset": 1}, "offset is not supported with searchAggregation"),
    ({"searchParams": {"params": {"offset": 1}}}, "searchParams.offset is not supported with searchAggregation"),
    ({"groupSize": 2}, "groupingField/groupSize/strictGroupSize and searchAggregation cannot be used simultaneously"),
    (
        {"searchParams": {"group_by_field": "brand"}},
        "searchParams.group_by_field(s) and searchAggregation cannot be used simultaneously",
    ),
    ({"orderByFields": ["price"]}, "orderByFields and searchAggregation cannot be used simultaneously"),
    ({"data": None, "ids": [1]}, "ids and searchAggregation cannot be used simultaneously"),
    (
        {"searchAggregation": None, "orderByFields": ["price"], "searchParams": {"order_by_fields": "price"}},
        "ambiguous order by: use either orderByFields or searchParams.order_by_fields, not both",
    ),
]


@pytest.mark.parametrize(("more", "text"), BAD_REST)
def test_rest_refuses_bad_aggregations_in_milvus_words(
    name: str, server: Server, more: dict[str, Any], text: str
) -> None:
    body = {"collectionName": name, "data": [[0.0, 0.0]], "searchAggregation": {"fields": ["brand"], "size": 1}}
    answer = Rest(server.uri).post("entities/search", body | more)
    assert (answer["code"], answer["message"]) == (1100, f"{text}: invalid parameter")


def test_rest_orders_hits(name: str, server: Server) -> None:
    body = {"collectionName": name, "data": [[0.0, 0.0]], "limit": 3, "orderByFields": ["price:asc"]}
    assert [hit["id"] for hit in Rest(server.uri).ok("entities/search", body)] == [2, 1, 0]


def test_rest_refuses_buckets_of_hybrid_searches(name: str, server: Server) -> None:
    asked = {"searchAggregation": {"fields": ["brand"], "size": 1}}
    for outer, inner in ((asked, {}), ({}, asked)):
        body = {"collectionName": name, "search": [{"data": [[0.0, 0.0]], "limit": 3, **inner}], **outer}
        answer = Rest(server.uri).post("entities/hybrid_search", body)
        assert answer["message"] == "searchAggregation is not supported for hybrid search: invalid parameter"
