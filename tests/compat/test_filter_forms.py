"""Filters over JSON arrays and whole documents, patterns, samples and functions: growing and sealed rows agree."""

from __future__ import annotations

from typing import Any

import pytest
from bloom_filters import bloom_filter
from grpc_calls import assert_ok, assert_refused
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from sample_collections import add_index, ids_of

ROWS: list[dict[str, Any]] = [
    {"j": {"a": [1, 2], "x": [[1, 2, 3], [1, 2.2, False, "abcd"]], "k": ["abcd"]}, "t": "a\\b", "d": [1, 2]},
    {"j": {"a": [2, 1], "x": [[5]], "k": ["z"], "e": {}}, "t": "xyz", "d": "Word"},
    {"j": 5, "t": "50%"},
    {"j": [1, 2], "t": "x1"},
    {"j": {"m": {"0": "zero"}, "a": [], "e": [None, {"f": []}]}, "t": ""},
    {"j": None, "t": "multi\nline", "d": {"r": "word"}},
]


def make(client: MilvusClient, name: str) -> None:
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("j", DataType.JSON, nullable=True)
    schema.add_field("t", DataType.VARCHAR, max_length=64)
    client.create_collection(name, schema=schema, consistency_level="Strong")
    add_index(client, name, "vec")
    client.load_collection(name)
    client.insert(name, [{"id": i, "vec": [i, 0.0], **row} for i, row in enumerate(ROWS)])


FORMS: list[tuple[str, list[int]]] = [
    ('j["k"] == ["abcd"]', [0]),
    ('j["a"] == [1, 2]', [0]),
    ('j["a"] == [1.0, 2.0]', [0]),
    ('j["a"] != [1, 2]', [1, 4]),
    ('not (j["a"] == [1, 2])', [1, 4]),
    ('j["a"] == []', [4]),
    ("d == [1, 2]", [0]),
    ('j["a"] in [[1, 2], [2, 1]]', [0, 1]),
    ('j["a"] not in [[1, 2], [2, 1]]', [4]),
    ('json_contains(j["x"], [1, 2.2, false, "abcd"])', [0]),
    ('json_contains_any(j["x"], [[5], [6]])', [1]),
    ('json_contains_all(j["x"], [[1, 2, 3], [1, 2.2, false, "abcd"]])', [0]),
    ('json_contains_any(j["x"], [[5], 5])', [1]),
    ("j == 5", [2]),
    ("j > 4", [2]),
    ("j in [5, 6]", [2]),
    ("0 < j < 10", [2]),
    ("j + 1 == 6", [2]),
    ("j == [1, 2]", [3]),
    ("json_contains(j, 1)", [3]),
    ('j["m"][0] == "zero"', [4]),
    ('j["m"]["0"] == "zero"', [4]),
    ('j["a"]["0"] == 1', [0]),
    ("j[1] == 2", [3]),
    ('exists j["e"]', []),
    ('j["e"] is null', [0, 1, 2, 3, 4, 5]),
    ('not exists j["a"]', [2, 3, 4, 5]),
    ('exists j["a"]', [0, 1]),
    (r't == r"a\b"', [0]),
    (r't like r"50\%"', [2]),
    ('t =~ "^x"', [1, 3]),
    ('t !~ "^x"', [0, 2, 4, 5]),
    ('t =~ "i.l"', [5]),
    ('d =~ "(?i)^word$"', [1]),
    ('d["r"] =~ "word"', [5]),
    ('starts_with(t, "x") or empty(t)', [1, 3, 4]),
]


@pytest.mark.parametrize("is_flushed", [False, True], ids=["growing", "sealed"])
def test_filters_read_arrays_documents_and_patterns(
    client: MilvusClient, collection_name: str, is_flushed: bool
) -> None:
    make(client, collection_name)
    if is_flushed:
        client.flush(collection_name)
    for text, expected in FORMS:
        assert ids_of(client, collection_name, text) == expected, text
        hits = client.search(collection_name, [[0.0, 0.0]], limit=10, filter=text)[0]
        assert sorted(hit["id"] for hit in hits) == expected, text
    templates: list[tuple[str, dict[str, Any], list[int]]] = [
        ('j["a"] == {v}', {"v": [1, 2]}, [0]),
        ('j["a"] in {v}', {"v": [[1, 2], [2, 1]]}, [0, 1]),
        ('json_contains(j["x"], {v})', {"v": [5]}, [1]),
        ('json_contains_any(j["x"], {v})', {"v": [[5], [1, 2, 3]]}, [0, 1]),
        ("j > {v}", {"v": 4}, [2]),
        ("t =~ {v}", {"v": r"^a\\b$"}, [0]),
        ("starts_with(t, {v})", {"v": "x"}, [1, 3]),
    ]
    for text, given, expected in templates:
        found = client.query(collection_name, filter=text, filter_params=given, output_fields=["id"])
        assert sorted(row["id"] for row in found) == expected, text
    assert len(client.query(collection_name, filter="id >= 0 and random_sample(0.5)", output_fields=["id"])) == 3


def test_a_delete_takes_the_same_filters(client: MilvusClient, collection_name: str) -> None:
    make(client, collection_name)
    client.delete(collection_name, filter='j["a"] == [1, 2] or j == 5')
    client.delete(collection_name, filter='t =~ "^x"')
    assert ids_of(client, collection_name, "id >= 0") == [4, 5]


def test_a_bloom_filter_is_sent_as_bytes_and_refused_in_deletes(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    make(client, collection_name)
    blob = schema_pb2.TemplateValue(bytes_val=bloom_filter([1, 4]))
    request = milvus_pb2.QueryRequest(
        collection_name=collection_name, expr="bloom_match(id, {b})", output_fields=["id"], consistency_level=0
    )
    request.expr_template_values["b"].CopyFrom(blob)
    assert list(assert_ok(stub.Query(request)).fields_data[0].scalars.long_data.data) == [1, 4]
    delete = milvus_pb2.DeleteRequest(collection_name=collection_name, expr="bloom_match(id, {b})")
    delete.expr_template_values["b"].CopyFrom(blob)
    assert_refused(stub.Delete(delete), 1100, "bloom_match is approximate and cannot be used in delete expressions")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("t == 1", "cannot parse expression: t == 1: comparisons between VarChar and Int64 are not supported"),
        ('t =~ "(a"', "invalid regex pattern: error parsing regexp: missing closing ): `(a`"),
    ],
)
def test_a_bad_filter_is_refused_with_milvus_text(
    client: MilvusClient, collection_name: str, text: str, reason: str
) -> None:
    make(client, collection_name)
    calls = {"query": client.query, "delete": client.delete}
    for plan, call in calls.items():
        with pytest.raises(MilvusException) as refused:
            call(collection_name, filter=text)
        message = refused.value.message
        assert refused.value.code == 1100
        assert message.startswith(f"failed to create {plan} plan: cannot parse expression: {text}: ")
        assert message.endswith(
            f"{reason.removeprefix(f'cannot parse expression: {text}: ')}: query plan failed: invalid parameter"
        )
