"""Rows over REST: insert, search, query, get, delete."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rest_client import VECTOR_INDEX, Rest, schema

_VARCHAR = {"elementTypeParams": {"max_length": 40}}
ALL_TYPES: list[dict[str, Any]] = [
    {"fieldName": "t", "dataType": "VarChar", **_VARCHAR},
    {"fieldName": "b", "dataType": "Bool"},
    {"fieldName": "i8", "dataType": "Int8"},
    {"fieldName": "i16", "dataType": "Int16"},
    {"fieldName": "i32", "dataType": "Int32"},
    {"fieldName": "i64", "dataType": "Int64"},
    {"fieldName": "f", "dataType": "Float"},
    {"fieldName": "d", "dataType": "Double"},
    {"fieldName": "j", "dataType": "JSON"},
]
NULLABLE: list[dict[str, Any]] = [{**f, "nullable": True} for f in ALL_TYPES]
ROW: dict[str, Any] = {
    "id": 2**53 + 1,
    "vec": [0.1, -2],
    "t": "wörd",
    "b": True,
    "i8": -128,
    "i16": 32767,
    "i32": -(2**31),
    "i64": 2**63 - 1,
    "f": 0.1,
    "d": 0.1,
    "j": {"a": [1, None, "x"]},
}


@pytest.fixture
def rest(server: Any) -> Rest:
    return Rest(server.uri)


def _insert(rest: Rest, name: str, data: Any, **headers: str) -> dict[str, Any]:
    return rest.post("entities/insert", {"collectionName": name, "data": data}, **headers)


def _query(rest: Rest, name: str, **body: Any) -> Any:
    return rest.ok("entities/query", {"collectionName": name, **body})


def _search(rest: Rest, name: str, **body: Any) -> dict[str, Any]:
    return rest.post("entities/search", {"collectionName": name, **body})


def _create(rest: Rest, name: str, fields: list[dict[str, Any]], dynamic: bool = False, **more: Any) -> None:
    body = {"schema": schema(fields, enableDynamicField=dynamic, **more), "indexParams": [VECTOR_INDEX]}
    rest.ok("collections/create", {"collectionName": name, **body})


def _ten(rest: Rest, name: str) -> None:
    """Ten rows on a line, `a` even or odd, and a dynamic key on every third."""
    _create(rest, name, [{"fieldName": "a", "dataType": "Int32"}], dynamic=True)
    data = [{"id": i, "vec": [i, 0], "a": i % 2, **({"color": f"c{i}"} if i % 3 == 0 else {})} for i in range(10)]
    answer = _insert(rest, name, data)
    assert answer == {"code": 0, "cost": 0, "data": {"insertCount": 10, "insertIds": list(range(10))}}


def test_every_type_round_trips(rest: Rest, collection_name: str) -> None:
    _create(rest, collection_name, ALL_TYPES)
    assert _insert(rest, collection_name, [ROW])["data"] == {"insertCount": 1, "insertIds": [ROW["id"]]}
    (found,) = _query(rest, collection_name, filter="id > 0")
    assert found == {**ROW, "j": '{"a": [1, null, "x"]}'}


def test_rows_survive_a_flush_unchanged(rest: Rest, collection_name: str) -> None:
    _create(rest, collection_name, ALL_TYPES, dynamic=True)
    row = {**ROW, "color": "red", "deep": {"k": [1, {"l": 2.5}]}}
    _insert(rest, collection_name, row)
    before = _query(rest, collection_name, filter="id > 0")
    rest.ok("collections/flush", {"collectionName": collection_name})
    assert _query(rest, collection_name, filter="id > 0") == before
    assert before == [{**row, "j": '{"a": [1, null, "x"]}'}]


def test_one_object_is_accepted_in_place_of_a_list(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name)
    assert _insert(rest, collection_name, {"id": 1, "vector": [1, 2]})["data"]["insertCount"] == 1
    assert rest.count(collection_name) == 1


def test_inserting_into_an_unloaded_collection_is_seen_after_loading(rest: Rest, collection_name: str) -> None:
    rest.custom_create(collection_name, [])
    assert _insert(rest, collection_name, [{"id": 1, "vec": [1, 2]}])["code"] == 0
    rest.ok("indexes/create", {"collectionName": collection_name, "indexParams": [VECTOR_INDEX]})
    rest.ok("collections/load", {"collectionName": collection_name})
    assert rest.count(collection_name) == 1


def test_nulls_and_left_out_nullable_fields_read_as_null(rest: Rest, collection_name: str) -> None:
    _create(rest, collection_name, NULLABLE)
    nulls = {f["fieldName"]: None for f in NULLABLE}
    data = [{"id": 1, "vec": [1, 2]}, {"id": 2, "vec": [1, 2], **nulls}, {**ROW, "id": 3}]
    assert _insert(rest, collection_name, data)["code"] == 0
    first, second, third = _query(rest, collection_name, filter="id > 0")
    assert first == {"id": 1, "vec": [1, 2], **nulls}
    assert second == {"id": 2, "vec": [1, 2], **nulls}
    assert third == {**ROW, "id": 3, "j": '{"a": [1, null, "x"]}'}
    assert [r["id"] for r in _query(rest, collection_name, filter="t is null")] == [1, 2]


def test_strings_of_numbers_are_taken_as_numbers_and_numbers_as_text(rest: Rest, collection_name: str) -> None:
    _create(rest, collection_name, ALL_TYPES)
    texts = {"id": "7", "b": "true", "i8": "1", "i32": "-5", "i64": "9", "f": "1.5", "d": "1e3", "t": 12, "j": "[1]"}
    assert _insert(rest, collection_name, {**ROW, **texts})["data"]["insertIds"] == [7]
    (found,) = _query(rest, collection_name, filter="id == 7")
    wanted = {"id": 7, "b": True, "i8": 1, "i32": -5, "i64": 9, "f": 1.5, "d": 1000.0, "t": "12", "j": "[1]"}
    assert {k: found[k] for k in wanted} == wanted


@pytest.mark.parametrize("id_type", ["Int64", "VarChar"])
def test_generated_ids_are_returned_and_find_their_rows(rest: Rest, collection_name: str, id_type: str) -> None:
    rest.quick_create(collection_name, idType=id_type, autoID=True, params={"max_length": 30})
    data = _insert(rest, collection_name, [{"vector": [1, 2]}, {"vector": [3, 4]}])["data"]
    assert data["insertCount"] == 2
    kind = int if id_type == "Int64" else str
    assert [type(i) for i in data["insertIds"]] == [kind, kind]
    rows = rest.ok("entities/get", {"collectionName": collection_name, "id": data["insertIds"][1]})
    assert rows == [{"id": data["insertIds"][1], "vector": [3, 4]}]


def test_a_given_id_for_a_generated_key_is_refused(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name, autoID=True)
    assert _insert(rest, collection_name, {"id": 1, "vector": [1, 2]}) == {
        "code": 1804,
        "message": "fail to deal the insert data, error: "
        "no need to pass pk field(id) when autoid==true in insert: invalid parameter",
    }
    assert rest.count(collection_name) == 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"vec": None}, "missing vector field: vec: invalid parameter[expected=FloatVector][actual=]"),
        ({"vec": [1]}, "[]float32 size 1 doesn't equal to vector dimension 2 of FloatVector: invalid parameter"),
        ({"vec": [1, 2, 3]}, "[]float32 size 3 doesn't equal to vector dimension 2 of FloatVector"),
        ({"vec": []}, "[]float32 size 0 doesn't equal to vector dimension 2 of FloatVector"),
        ({"vec": "near"}, "cannot unmarshal string into Go value of type []float32: invalid parameter[expected=Float"),
        ({"vec": [1, "2"]}, "cannot unmarshal string into Go value of type float32"),
        ({"vec": [1, None]}, "cannot unmarshal null into Go value of type float32"),
        ({"vec": [1, True]}, "cannot unmarshal bool into Go value of type float32"),
        ({"vec": [[1], [2]]}, "cannot unmarshal array into Go value of type float32"),
        ({"vec": [1, 1e39]}, "out of range"),
        ({"id": "seven"}, 'strconv.ParseInt: parsing "seven": invalid syntax: invalid parameter[expected=Int64]'),
        ({"id": 1.5}, 'parsing "1.5": invalid syntax: invalid parameter[expected=Int64][actual=1.5]'),
        ({"id": None}, "row 1 does not has field id: invalid parameter"),
        ({"id": True}, "invalid parameter[expected=Int64][actual=true]"),
        ({"id": "1" * 5000}, "invalid syntax: invalid parameter[expected=Int64]"),
        ({"id": 2**63}, "value out of range: invalid parameter[expected=Int64]"),
        ({"i8": 128}, "value out of range: invalid parameter[expected=Int8][actual=128]"),
        ({"i16": -32769}, "value out of range: invalid parameter[expected=Int16][actual=-32769]"),
        ({"i32": 2**31}, "value out of range: invalid parameter[expected=Int32]"),
        ({"b": "maybe"}, 'strconv.ParseBool: parsing "maybe": invalid syntax: invalid parameter[expected=Bool]'),
        ({"b": 2}, "invalid parameter[expected=Bool][actual=2]"),
        ({"f": "big"}, 'strconv.ParseFloat: parsing "big": invalid syntax: invalid parameter[expected=Float]'),
        ({"d": [1.0]}, "invalid parameter[expected=Double][actual=[1.0]]"),
        ({"f": True}, "invalid parameter[expected=Float][actual=true]"),
        ({"t": None}, "row 1 does not has field t: invalid parameter"),
        ({"j": None}, "row 1 does not has field j: invalid parameter"),
        ({"color": "red"}, "has pass more field without dynamic schema, please check it: invalid parameter"),
        ({"$meta": {}}, "has pass more field without dynamic schema"),
    ],
)
def test_a_bad_value_is_1804_and_nothing_of_its_batch_is_written(
    rest: Rest, collection_name: str, change: dict[str, Any], text: str
) -> None:
    _create(rest, collection_name, ALL_TYPES)
    answer = _insert(rest, collection_name, [{**ROW, "id": 1}, {**ROW, "id": 2, **change}])
    assert answer["code"] == 1804
    assert answer["message"].startswith("fail to deal the insert data, error: ")
    assert text in answer["message"]
    assert rest.count(collection_name) == 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"t": "x" * 41}, "length of varchar field t exceeds max length"),
        ({"j": "{not json"}, "the json field (j) holds text that is not JSON"),
        ({"d": "NaN"}, "is not a number or infinity"),
    ],
)
def test_a_value_the_schema_refuses_is_1100_and_nothing_of_its_batch_is_written(
    rest: Rest, collection_name: str, change: dict[str, Any], text: str
) -> None:
    _create(rest, collection_name, ALL_TYPES)
    answer = _insert(rest, collection_name, [{**ROW, "id": 1}, {**ROW, "id": 2, **change}])
    assert answer["code"] == 1100
    assert text in answer["message"]
    assert rest.count(collection_name) == 0


@pytest.mark.parametrize("field", ["id", "vec", "t", "b", "i8", "i64", "f", "d", "j"])
def test_a_left_out_field_is_1804(rest: Rest, collection_name: str, field: str) -> None:
    _create(rest, collection_name, ALL_TYPES)
    answer = _insert(rest, collection_name, {k: v for k, v in ROW.items() if k != field})
    assert answer["code"] == 1804
    assert field in answer["message"]
    assert rest.count(collection_name) == 0


def test_no_rows_are_1804_and_rows_that_are_no_objects_1801(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name)
    message = "fail to deal the insert data, error: missing required parameters"
    assert _insert(rest, collection_name, []) == {"code": 1804, "message": message}
    for data in ([1], ["a"], [[{"id": 1}]], "rows", 7):
        assert _insert(rest, collection_name, data)["code"] == 1801
    assert rest.count(collection_name) == 0


def test_dynamic_keys_keep_their_types_and_nulls_are_left_out(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name)
    extra = {"s": "x", "n": 3, "r": 2.5, "y": True, "l": [1, "a"], "o": {"k": None}}
    _insert(rest, collection_name, {"id": 1, "vector": [1, 2], **extra, "gone": None})
    assert _query(rest, collection_name, filter="id == 1") == [{"id": 1, "vector": [1, 2], **extra}]
    assert _query(rest, collection_name, filter='s == "x"', outputFields=["n", "nope"]) == [{"id": 1, "n": 3}]
    assert _query(rest, collection_name, filter="id == 1", outputFields=["$meta"]) == [{"id": 1, **extra}]
    assert _query(rest, collection_name, filter="id == 1", outputFields=["id"]) == [{"id": 1}]


def test_the_name_of_the_dynamic_field_is_refused_as_a_dynamic_key(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name)
    answer = _insert(rest, collection_name, {"id": 1, "vector": [1, 2], "$meta": {}})
    assert answer["code"] == 1804
    assert "use the invalid field name($meta) when enable dynamicField" in answer["message"]


def test_an_unknown_partition_to_insert_into_is_200(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name)
    body = {"collectionName": collection_name, "data": [{"id": 1, "vector": [1, 2]}], "partitionName": "nope"}
    assert rest.post("entities/insert", body) == {"code": 200, "message": "partition not found[partition=nope]"}
    assert rest.ok("entities/insert", {**body, "partitionName": "_default"})["insertCount"] == 1


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("insert", {"data": [{"id": 1}]}),
        ("delete", {"filter": "id > 0"}),
        ("query", {}),
        ("get", {"id": 1}),
        ("search", {"data": [[1, 2]]}),
    ],
)
def test_a_missing_collection_is_100_on_every_route(rest: Rest, path: str, more: dict[str, Any]) -> None:
    answer = rest.post(f"entities/{path}", {"collectionName": "nowhere", **more})
    assert answer == {"code": 100, "message": "can't find collection[database=default][collection=nowhere]"}


def test_search_answers_rows_with_distance_key_and_output_fields(rest: Rest, collection_name: str) -> None:
    _ten(rest, collection_name)
    answer = _search(rest, collection_name, data=[[3, 0]], limit=3, outputFields=["a", "color"])
    assert answer["data"][0] == {"id": 3, "distance": 0.0, "a": 1, "color": "c3"}
    assert {r["id"] for r in answer["data"][1:]} == {2, 4}
    assert [r["distance"] for r in answer["data"]] == [0.0, 1.0, 1.0]
    assert all("color" not in r for r in answer["data"][1:])
    assert (answer["code"], answer["cost"], answer["topks"]) == (0, 0, [3])


def test_search_without_output_fields_answers_key_and_distance(rest: Rest, collection_name: str) -> None:
    _ten(rest, collection_name)
    answer = _search(rest, collection_name, data=[[9, 0]], limit=1)
    assert answer == {"code": 0, "cost": 0, "data": [{"distance": 0.0, "id": 9}], "topks": [1]}


def test_answers_of_several_queries_are_concatenated(rest: Rest, collection_name: str) -> None:
    _ten(rest, collection_name)
    answer = _search(rest, collection_name, data=[[0, 0], [9, 0]], annsField="vec", limit=2)
    assert [r["id"] for r in answer["data"]] == [0, 1, 9, 8]
    assert answer["topks"] == [2, 2]


def test_the_limit_of_a_search_is_100_by_default(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name)
    data = [{"id": i, "vector": [1, i]} for i in range(150)]
    assert _insert(rest, collection_name, data)["data"]["insertCount"] == 150
    assert _search(rest, collection_name, data=[[1, 1]])["topks"] == [100]
    assert len(_query(rest, collection_name)) == 100


def test_offset_filter_and_templates_narrow_a_search(rest: Rest, collection_name: str) -> None:
    _ten(rest, collection_name)
    ids = [r["id"] for r in _search(rest, collection_name, data=[[0, 0]], limit=3, offset=2)["data"]]
    assert ids == [2, 3, 4]
    more = {"filter": "a == {odd} and id in {ids}", "exprParams": {"odd": 1, "ids": [1, 2, 3, 4]}}
    assert [r["id"] for r in _search(rest, collection_name, data=[[0, 0]], **more)["data"]] == [1, 3]


def test_a_search_without_hits_answers_an_empty_list_and_no_topks(rest: Rest, collection_name: str) -> None:
    _ten(rest, collection_name)
    answer = _search(rest, collection_name, data=[[0, 0]], filter="id > 100")
    assert answer == {"code": 0, "cost": 0, "data": []}


@pytest.mark.parametrize(
    "params",
    [
        {"metricType": "L2", "params": {"ef": 200}},
        {"metric_type": "L2", "ef": 200},
        {"ef": 200, "params": {"ef": 200}},
        {"params": None},
        {},
    ],
)
def test_search_params_may_be_nested_or_flat(rest: Rest, collection_name: str, params: dict[str, Any]) -> None:
    _ten(rest, collection_name)
    answer = _search(rest, collection_name, data=[[3, 0]], limit=1, searchParams=params, consistencyLevel="Strong")
    assert answer["data"] == [{"id": 3, "distance": 0.0}]


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        ({"data": []}, 1802, "either 'ids' (for primary key search) or 'data' (for vector search) must be provided"),
        ({"data": None}, 1802, "either 'ids' (for primary key search)"),
        ({"data": [[1, 2, 3]]}, 1801, "error: dimension: 2, but length of []float: 3: invalid parameter[expected="),
        ({"data": [[1, 2], [1]]}, 1801, "dimension: 2, but length of []float: 1"),
        ({"data": [1, 2]}, 1801, "cannot unmarshal number into Go value of type []float32"),
        ({"data": [["a", "b"]]}, 1801, "cannot unmarshal string into Go value of type float32"),
        ({"data": ["words"]}, 1801, "cannot unmarshal string into Go value of type []float32"),
        ({"annsField": "nope"}, 1801, "error: cannot find a vector field: field not found[field=nope]"),
        ({"annsField": "a"}, 1801, "cannot find a vector field"),
        ({"filter": "nope ==="}, 1100, "cannot parse expression"),
        ({"limit": 0}, 1100, "topk [0] is invalid"),
        ({"limit": 16385}, 1100, "topk [16385] is invalid"),
        ({"offset": -1}, 1100, "offset [-1] is invalid"),
        ({"partitionNames": ["nope"]}, 1100, "partition name nope not found"),
        ({"consistencyLevel": "Weak"}, 1100, "consistencyLevel can only be [Strong, Session, Bounded, Eventually, "),
        ({"searchParams": {"params": []}}, 0, ""),
        ({"searchParams": {"params": [1]}}, 1100, "searchParams.params must be a dict"),
        ({"searchParams": {"ef": 1, "params": {"ef": 2}}}, 1100, "ambiguous parameter: ef"),
        ({"searchParams": {"metricType": "IP"}}, 1100, "metric type not match"),
        ({"searchParams": {"range_filter": 1}}, 1100, "range_filter requires radius to be set"),
        ({"groupingField": "vec"}, 65535, "unsupported data type VECTOR_FLOAT for group by operator"),
        ({"orderByFields": ["vec"]}, 1100, "order_by field 'vec' has unsortable type FloatVector"),
        ({"ids": [1]}, 1100, "primary keys (ids) and query vectors (data) are mutually exclusive"),
        ({"functionScore": {"functions": [{}]}}, 1100, "Unsupported function type: "),
    ],
)
def test_invalid_searches_are_refused(
    rest: Rest, collection_name: str, more: dict[str, Any], code: int, text: str
) -> None:
    _create(rest, collection_name, [{"fieldName": "a", "dataType": "Int32"}])
    answer = _search(rest, collection_name, **{"data": [[1, 2]], **more})
    assert answer["code"] == code, answer
    assert text in answer.get("message", "")


def test_a_search_over_two_vector_fields_must_name_one(rest: Rest, collection_name: str) -> None:
    second = {"fieldName": "vec2", "dataType": "FloatVector", "elementTypeParams": {"dim": 3}}
    body = {
        "schema": schema([second]),
        "indexParams": [VECTOR_INDEX, {**VECTOR_INDEX, "fieldName": "vec2", "indexName": "v2"}],
    }
    rest.ok("collections/create", {"collectionName": collection_name, **body})
    _insert(rest, collection_name, {"id": 1, "vec": [1, 2], "vec2": [1, 2, 3]})
    answer = _search(rest, collection_name, data=[[1, 2]])
    assert answer["code"] == 1801
    assert "search without annsField, but already found multiple vector fields: [vec, vec2,,,]" in answer["message"]
    answer = _search(rest, collection_name, data=[[1, 2, 3]], annsField="vec2", outputFields=["*"])
    assert answer["data"] == [{"id": 1, "vec": [1, 2], "vec2": [1, 2, 3], "distance": 0.0}]


def test_query_pages_in_key_order(rest: Rest, collection_name: str) -> None:
    _ten(rest, collection_name)
    assert [r["id"] for r in _query(rest, collection_name, limit=3, offset=4, outputFields=["id"])] == [4, 5, 6]
    assert [r["id"] for r in _query(rest, collection_name, filter="a == 1")] == [1, 3, 5, 7, 9]
    rows = _query(rest, collection_name, filter="id < {top}", exprParams={"top": 1})
    assert rows == [{"id": 0, "vec": [0, 0], "a": 0, "color": "c0"}]


@pytest.mark.parametrize("names", [["count(*)"], [" COUNT(*) "]])
def test_count_ignores_the_limit_and_takes_a_filter(rest: Rest, collection_name: str, names: list[str]) -> None:
    _ten(rest, collection_name)
    answer = rest.post(
        "entities/query", {"collectionName": collection_name, "outputFields": names, "limit": 3, "filter": "id > 2"}
    )
    assert answer == {"code": 0, "cost": 0, "data": [{"count(*)": 7}]}


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"filter": "nope ==="}, "cannot parse expression"),
        ({"filter": "id > 0", "limit": 16385}, "(offset+limit) should be in range [1, 16384]"),
        ({"limit": 0}, "empty expression should be used with limit"),
        ({"outputFields": ["nope"]}, "field nope not exist"),
        ({"partitionNames": ["nope"]}, "partition name nope not found"),
        ({"consistencyLevel": "Weak"}, "parameter:'Weak' is incorrect, please check it"),
        (
            {"orderByFields": ["vec"], "limit": 3},
            "order_by field 'vec' has type FloatVector which is not sortable",
        ),
        ({"groupByFields": ["vec"]}, "group by field vec has unsupported data type FloatVector"),
    ],
)
def test_invalid_queries_are_1100(rest: Rest, collection_name: str, more: dict[str, Any], text: str) -> None:
    _create(rest, collection_name, [])
    answer = rest.post("entities/query", {"collectionName": collection_name, **more})
    assert answer["code"] == 1100
    assert text in answer["message"]


def test_get_accepts_one_id_a_list_and_ids_as_text(rest: Rest, collection_name: str) -> None:
    _ten(rest, collection_name)

    def get(given: Any, **more: Any) -> Any:
        return rest.ok("entities/get", {"collectionName": collection_name, "id": given, **more})

    assert get(4) == [{"id": 4, "vec": [4, 0], "a": 0}]
    assert get(0, outputFields=["a"]) == [{"id": 0, "a": 0}]
    assert [r["id"] for r in get([5, 2, 99])] == [2, 5]
    assert [r["id"] for r in get(["5", 2])] == [2, 5]
    assert get([]) == []


def test_get_finds_text_keys_with_any_characters(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name, idType="VarChar", primaryFieldName="key", params={"max_length": 50})
    strange = ['a"b', "a'b", "back\\slash", "ü] or 1 == 1"]
    _insert(rest, collection_name, [{"key": k, "vector": [1, 2]} for k in strange])
    for key in strange:
        rows = rest.ok("entities/get", {"collectionName": collection_name, "id": key, "outputFields": ["key"]})
        assert rows == [{"key": key}]


@pytest.mark.parametrize("given", ["seven", [1, "x"], 1.5, {"a": 1}, [True], 2**63, "1" * 5000, [""]])
def test_an_id_of_another_type_is_1806(rest: Rest, collection_name: str, given: Any) -> None:
    rest.quick_create(collection_name)
    answer = rest.post("entities/get", {"collectionName": collection_name, "id": given})
    assert answer["code"] == 1806
    assert answer["message"].startswith("please check the primary key and its' type can only in [int, string], error: ")


def test_delete_by_key_and_by_filter(rest: Rest, collection_name: str) -> None:
    _ten(rest, collection_name)
    here = {"collectionName": collection_name}
    assert rest.post("entities/delete", {**here, "filter": "id in [1, 2]"}) == {"code": 0, "data": {"deleteCount": 2}}
    assert rest.ok("entities/delete", {**here, "filter": "a == {odd}", "exprParams": {"odd": 1}}) == {"deleteCount": 4}
    assert [r["id"] for r in _query(rest, collection_name, outputFields=["id"])] == [0, 4, 6, 8]


def test_an_unloaded_collection_deletes_by_key_only(rest: Rest, collection_name: str) -> None:
    _ten(rest, collection_name)
    here = {"collectionName": collection_name}
    rest.ok("collections/release", here)
    refused = rest.post("entities/delete", {**here, "filter": "a == 1"})
    assert refused["code"] == 101
    assert refused["message"].startswith("collection not loaded[collection=")
    assert rest.ok("entities/delete", {**here, "filter": "id == 3"}) == {"deleteCount": 1}
    rest.ok("collections/load", here)
    assert rest.count(collection_name) == 9


@pytest.mark.parametrize(
    ("more", "code"), [({"filter": "nope ==="}, 1100), ({"filter": "id > 0", "partitionName": "nope"}, 200)]
)
def test_a_refused_delete_deletes_nothing(rest: Rest, collection_name: str, more: dict[str, Any], code: int) -> None:
    _ten(rest, collection_name)
    assert rest.post("entities/delete", {"collectionName": collection_name, **more})["code"] == code
    assert rest.count(collection_name) == 10


@pytest.mark.parametrize(("header", "as_text"), [("false", True), ("0", True), ("true", False), ("what", False)])
def test_64_bit_numbers_are_text_for_clients_that_cannot_hold_them(
    rest: Rest, collection_name: str, header: str, as_text: bool
) -> None:
    rest.quick_create(collection_name)
    big = 2**60 + 1
    shown: object = str(big) if as_text else big
    allow = {"Accept_Type_Allow_Int64": header}
    inserted = _insert(rest, collection_name, {"id": big, "vector": [1, 2]}, **allow)
    assert inserted["data"]["insertIds"] == [shown]
    here = {"collectionName": collection_name}
    assert rest.ok("entities/query", {**here, "outputFields": ["id"]}, **allow) == [{"id": shown}]
    assert rest.ok("entities/get", {**here, "id": str(big), "outputFields": ["id"]}, **allow) == [{"id": shown}]
    assert rest.ok("entities/search", {**here, "data": [[1, 2]]}, **allow)[0]["id"] == shown
    counted = rest.ok("entities/query", {**here, "outputFields": ["count(*)"]}, **allow)
    assert counted == [{"count(*)": "1" if as_text else 1}]


def test_float_vectors_come_back_bit_exactly_with_few_digits(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name, 64)
    vectors = np.random.default_rng(7).standard_normal((50, 64)).astype(np.float32)
    _insert(rest, collection_name, [{"id": i, "vector": v.tolist()} for i, v in enumerate(vectors)])
    for _ in range(2):
        rows = _query(rest, collection_name, outputFields=["vector"])
        found = np.array([r["vector"] for r in rows], np.float32)
        assert np.array_equal(found, vectors)
        assert len(str(rows[0]["vector"][0])) < 14
        rest.ok("collections/flush", {"collectionName": collection_name})


def test_many_rows_in_one_request(rest: Rest, collection_name: str) -> None:
    rest.quick_create(collection_name, 32)
    vectors = np.random.default_rng(1).standard_normal((5000, 32)).round(3)
    data = [{"id": i, "vector": v, "tag": i % 7} for i, v in enumerate(vectors.tolist())]
    assert _insert(rest, collection_name, data)["data"]["insertCount"] == 5000
    assert rest.count(collection_name) == 5000
    hit = _search(rest, collection_name, data=[data[4321]["vector"]], limit=1, outputFields=["tag"])["data"][0]
    assert (hit["id"], hit["tag"]) == (4321, 4321 % 7)
    assert hit["distance"] == pytest.approx(1.0, abs=1e-5)
