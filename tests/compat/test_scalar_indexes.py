"""Scalar indexes: which fields take which, their names, and filters that answer the same with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import ServerFactory
from directory_check import damages
from grpc_calls import assert_ok, assert_refused, pairs
from load_calls import estimate
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import milvus_pb2
from sample_collections import add_index, ids_of, make_c1, wait_indexed

ROWS = 1200
"""More than the 1024 below which a segment has no index file."""
PLAIN = {
    "flag": DataType.BOOL,
    "i8": DataType.INT8,
    "i64": DataType.INT64,
    "f32": DataType.FLOAT,
    "f64": DataType.DOUBLE,
    "text": DataType.VARCHAR,
    "doc": DataType.JSON,
}
TITLES = ("title", "subject")
"""Texts whose indexes are of pieces."""
ARRAYS = {"numbers": DataType.INT32, "reals": DataType.DOUBLE, "tags": DataType.VARCHAR}
FILTERS = [
    "flag == true",
    "i8 in [1, 2, 3]",
    "i8 != 5",
    "i64 == 77",
    "i64 >= 1190 or i64 < 3",
    "not (i64 in [1, 2, 3])",
    "f32 == 0.5",
    "f64 > 119.5",
    "text == 'k77'",
    "text in ['k1', 'k1199', 'nobody', '']",
    'text like "k11%"',
    "text > 'k9' and i64 < 500",
    "text is null",
    "not (text == 'k77')",
    'doc["a"]["b"] == 77',
    'doc["a"]["b"] < 10.5',
    'doc["s"] like "x1%"',
    "array_contains(numbers, 7)",
    "array_contains_all(numbers, [7, 8])",
    "array_contains_any(tags, ['t3', 'none'])",
    "not array_contains(reals, 0.5)",
    'json_contains(doc["list"], 7)',
    "dyn == 3",
    'text =~ "^k11"',
    'text =~ "k1+$"',
    'text !~ "k[0-8]"',
    'title like "%tadium no 77%"',
    'title like "%北京%7_"',
    'not (title like "%stadium%")',
    'title =~ "(?:stadium|大学) no 1+$"',
    'subject like "%é%"',
    'subject like "é no 7%"',
    'subject like "%no 1_8"',
    'subject =~ "no [0-9]{2}$" and subject is not null',
    'doc["t"] like "%tadium no 11%"',
    'doc["t"] !~ "stadium"',
    'starts_with(text, "k11") or empty(text)',
    'doc["s"] =~ "x1.$"',
    'doc["s"] !~ "^x1"',
    'doc["list"] == [7, "e"]',
    'doc["list"] in [[7, "e"], [1, "e"]]',
    'doc["list"]["0"] == 7',
    'exists doc["a"]["b"]',
]


def make(client: MilvusClient, name: str) -> None:
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    for field_name, data_type in PLAIN.items():
        more = {"max_length": 64, "nullable": True} if data_type is DataType.VARCHAR else {}
        schema.add_field(field_name, data_type, **more)
    for field_name in TITLES:
        schema.add_field(field_name, DataType.VARCHAR, max_length=64, nullable=True)
    for field_name, data_type in ARRAYS.items():
        more = {"max_length": 64} if data_type is DataType.VARCHAR else {}
        schema.add_field(field_name, DataType.ARRAY, element_type=data_type, max_capacity=8, **more)
    client.create_collection(name, schema=schema)
    add_index(client, name, "vec")


def rows(first: int, count: int = ROWS) -> list[dict[str, Any]]:
    return [
        {
            "id": i,
            "vec": [i, 0],
            "flag": i % 3 == 0,
            "i8": i % 7,
            "i64": i,
            "f32": i % 100 / 2,
            "f64": i / 10,
            "text": None if i % 10 == 4 else f"k{i}",
            "doc": {"a": {"b": i if i % 2 else float(i)}, "s": f"x{i}", "list": [i % 9, "e"], "t": title(i)},
            "title": title(i),
            "subject": None if i % 6 == 5 else f"é no {i}",
            "numbers": [i % 9, i % 10, i % 9],
            "reals": [] if i % 5 else [0.5, i],
            "tags": [f"t{i % 50}"],
            "dyn": i % 40,
        }
        for i in range(first, first + count)
    ]


def title(i: int) -> str:
    return f"the {('stadium', '北京大学', '')[i % 3]} no {i}"


def create(stub: Any, name: str, field_name: str, index_type: str, index_name: str = "", **params: object) -> Any:
    given = {"index_type": index_type, **params} if index_type else params
    return stub.CreateIndex(
        milvus_pb2.CreateIndexRequest(
            collection_name=name, field_name=field_name, index_name=index_name, extra_params=pairs(given)
        )
    )


def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def loaded_bytes(client: MilvusClient, name: str) -> int:
    return sum(s.mem_size for s in client.list_loaded_segments(name))


GRAMS: dict[str, Any] = {"min_gram": 2, "max_gram": 3}


def index_everything(client: MilvusClient, stub: Any, name: str, row_count: int) -> list[str]:
    for field_name in (*PLAIN, *ARRAYS):
        if field_name != "doc":
            assert_ok(create(stub, name, field_name, "INVERTED"))
    for path, cast in (('doc["a"]["b"]', "DOUBLE"), ('doc["s"]', "varchar"), ('doc["list"]', "ARRAY_DOUBLE")):
        assert_ok(create(stub, name, "doc", "INVERTED", json_path=path, json_cast_type=cast))
    assert_ok(create(stub, name, "dyn", "AUTOINDEX", json_path="dyn", json_cast_type="double"))
    assert_ok(create(stub, name, "title", "NGRAM", **GRAMS))
    assert_ok(create(stub, name, "subject", "FMINDEX"))
    assert_ok(create(stub, name, "doc", "NGRAM", json_path='doc["t"]', json_cast_type="varchar", **GRAMS))
    names = [n for n in client.list_indexes(name) if n != "vec"]
    for index_name in names:
        wait_indexed(client, name, index_name, row_count)
    return names


@pytest.fixture(scope="module")
def empty(server: Any) -> Any:
    client = server.client()
    make(client, "scalar_indexes_empty")
    yield "scalar_indexes_empty"
    client.drop_collection("scalar_indexes_empty")
    client.close()


NUMERIC = "STL_SORT are only supported on numeric, varchar or timestamptz field, got {}"
BITMAP = "bitmap index are only supported on bool, int, string and array field"
CAST = "json index must specify cast type: missing parameter[missing_param=json_cast_type]"
REFUSED = {
    "INVERTED": {"vec": "metric type not set for vector index", "doc": CAST},
    "BITMAP": {
        "id": "create bitmap index on primary key not supported",
        "f32": BITMAP,
        "f64": BITMAP,
        "doc": CAST,
        "reals": "bitmap index are only supported on bool, int, string for array field",
    },
    "STL_SORT": {"flag": NUMERIC.format("Bool"), **dict.fromkeys(ARRAYS, NUMERIC.format("Array")), "doc": CAST},
    "Trie": dict.fromkeys(
        ("flag", "i8", "i64", "f32", "f64", "doc", *ARRAYS), "TRIE are only supported on varchar field"
    ),
    "AUTOINDEX": {"doc": CAST},
    "": {"doc": CAST},
    "NGRAM": dict.fromkeys(
        ("flag", "i8", "i64", "f32", "f64", *ARRAYS), "ngram index can only be created on VARCHAR or JSON field"
    ),
    "FMINDEX": dict.fromkeys(
        ("flag", "i8", "i64", "f32", "f64", "doc", *ARRAYS), "FM-index can only be created on VARCHAR field"
    ),
    "HYBRID": {"i8": "invalid parameter[expected=valid index][actual=invalid index type: HYBRID]"},
    "HNSW": {"i8": "index HNSW only supports vector data type"},
}
REFUSES_ALL = ("HYBRID", "HNSW")
NEEDED: dict[str, dict[str, Any]] = {"NGRAM": {"min_gram": 1, "max_gram": 1, "json_cast_type": "VARCHAR"}}
"""Parameters that a type needs."""


@pytest.mark.parametrize("index_type", REFUSED)
def test_each_index_type_is_accepted_on_its_fields_only(
    client: MilvusClient, stub: Any, empty: str, index_type: str
) -> None:
    refused = REFUSED[index_type]
    for field_name, text in refused.items():
        code = 1101 if text == CAST else 1100
        assert_refused(create(stub, empty, field_name, index_type), code, text, legacy=5)
    allowed = [] if index_type in REFUSES_ALL else [f for f in (*PLAIN, *ARRAYS) if f not in refused]
    for field_name in allowed:
        assert_ok(create(stub, empty, field_name, index_type, **NEEDED.get(index_type, {})))
        described = client.describe_index(empty, field_name)
        assert (described.get("index_type", ""), described["field_name"]) == (index_type, field_name)
        assert (described["state"], described["pending_index_rows"]) == ("Finished", 0)
        client.drop_index(empty, field_name)
    assert client.list_indexes(empty) == ["vec"]


@pytest.mark.parametrize(
    ("params", "code", "text"),
    [
        ({"index_type": "INVERTED", "json_cast_type": "INT"}, 1100, "json_cast_type INT is not supported: "),
        ({"index_type": "BITMAP", "json_cast_type": "double"}, 1100, "DOUBLE is not supported for BITMAP index"),
        ({"index_type": "STL_SORT", "json_cast_type": "bool"}, 1100, "BOOL is not supported for STL_SORT index"),
        (
            {"index_type": "INVERTED", "json_cast_type": "bool", "json_cast_function": "string_to_double"},
            1100,
            "json_cast_function STRING_TO_DOUBLE is not supported for json_cast_type BOOL",
        ),
        (
            {"index_type": "INVERTED", "json_cast_type": "DOUBLE", "json_cast_function": "STRING_TO_INT"},
            1100,
            "json_cast_function STRING_TO_INT is not supported",
        ),
        ({"index_type": "INVERTED", "json_cast_type": "BOOL", "json_path": "1"}, 65535, "cannot parse identifier: 1"),
        ({"index_type": "INVERTED", "json_cast_type": "BOOL", "json_path": "i8"}, 1100, "fieldID not match"),
        (
            {"index_type": "STL_SORT", "json_cast_type": "DOUBLE", "mmap.enabled": "true"},
            1100,
            "invalid mmap type params: index type STL_SORT does not support mmap: invalid parameter",
        ),
    ],
)
def test_bad_json_indexes_are_refused(stub: Any, empty: str, params: dict[str, str], code: int, text: str) -> None:
    given = {k: v for k, v in params.items() if k != "index_type"}
    assert_refused(create(stub, empty, "doc", params["index_type"], **given), code, text)


GRAM_RANGE = "invalid min_gram or max_gram value for Ngram index, min_gram: {}, max_gram: {}"
BOTH_GRAMS = "Ngram index must specify both min_gram and max_gram: missing parameter"


@pytest.mark.parametrize(
    ("field_name", "index_type", "params", "code", "text"),
    [
        ("text", "NGRAM", {}, 1101, BOTH_GRAMS),
        ("text", "NGRAM", {"min_gram": 2}, 1101, BOTH_GRAMS),
        ("text", "NGRAM", {"max_gram": 2}, 1101, BOTH_GRAMS),
        (
            "text",
            "NGRAM",
            {"min_gram": 2.5, "max_gram": 3},
            1100,
            "min_gram for Ngram index must be an integer, got: 2.5",
        ),
        (
            "text",
            "NGRAM",
            {"min_gram": 2, "max_gram": "x"},
            1100,
            "max_gram for Ngram index must be an integer",
        ),
        ("text", "NGRAM", {"min_gram": 5, "max_gram": 3}, 1100, GRAM_RANGE.format(5, 3)),
        ("text", "NGRAM", {"min_gram": 0, "max_gram": 3}, 1100, GRAM_RANGE.format(0, 3)),
        ("text", "NGRAM", {"min_gram": -1, "max_gram": -1}, 1100, GRAM_RANGE.format(-1, -1)),
        ("doc", "NGRAM", GRAMS, 1101, "JSON field with ngram index must specify json_cast_type: missing parameter"),
        (
            "doc",
            "NGRAM",
            {**GRAMS, "json_cast_type": " double"},
            1100,
            "JSON field with ngram index only supports VARCHAR cast type, got: DOUBLE",
        ),
        ("vec", "NGRAM", {**GRAMS, "metric_type": "L2"}, 1100, "can't build with this index NGRAM"),
        (
            "text",
            "FMINDEX",
            {"fm_sa_sample_rate": 3},
            1100,
            "fm_sa_sample_rate for FM-index must be in [4, 256]",
        ),
        ("text", "FMINDEX", {"fm_sa_sample_rate": 257}, 1100, "must be in [4, 256], got: 257"),
        (
            "text",
            "FMINDEX",
            {"fm_sa_sample_rate": "a"},
            1100,
            "fm_sa_sample_rate for FM-index must be an integer",
        ),
        ("text", "FMINDEX", {"fm_block_bytes": 24}, 1100, "must be a power of two in [8, 128], got: 24"),
        ("text", "FMINDEX", {"fm_block_bytes": 256}, 1100, "must be a power of two in [8, 128], got: 256"),
        ("text", "FMINDEX", {"fm_block_bytes": "a"}, 1100, "fm_block_bytes for FM-index must be an integer, got: a"),
    ],
)
def test_bad_indexes_of_pieces_are_refused(
    client: MilvusClient, stub: Any, empty: str, field_name: str, index_type: str, params: Any, code: int, text: str
) -> None:
    assert_refused(create(stub, empty, field_name, index_type, **params), code, text)
    assert client.list_indexes(empty) == ["vec"]


@pytest.mark.parametrize(
    ("index_type", "params"),
    [
        ("NGRAM", {"min_gram": "2", "max_gram": 1_000_000_000, "mmap.enabled": "true"}),
        ("FMINDEX", {"fm_sa_sample_rate": 256, "fm_block_bytes": 128, "mmap.enabled": "true"}),
    ],
)
def test_an_index_of_pieces_is_described_with_its_parameters(
    client: MilvusClient, stub: Any, empty: str, index_type: str, params: Any
) -> None:
    assert_ok(create(stub, empty, "text", index_type, **params))
    described = client.describe_index(empty, "text")
    assert {key: described[key] for key in params} == {key: str(value) for key, value in params.items()}
    client.drop_index(empty, "text")


def test_json_paths_have_an_index_each_and_names_are_unique(client: MilvusClient, stub: Any, empty: str) -> None:
    name = empty
    for path in ('doc["a"]["b"]', "doc['a'][0]", "doc"):
        for _ in range(2):
            assert_ok(create(stub, name, "doc", "INVERTED", json_path=path, json_cast_type="double"))
    assert_ok(create(stub, name, "dyn", "STL_SORT", json_path="dyn['x/y']", json_cast_type="varchar"))
    assert_ok(create(stub, name, "i8", "BITMAP", "mine"))
    names = ["doc", "doc/a/0", "doc/a/b", "mine", "$meta/dyn/x~1y"]
    assert sorted(client.list_indexes(name)) == sorted(["vec", *names])
    described = client.describe_index(name, "$meta/dyn/x~1y")
    assert (described["field_name"], described["json_cast_type"]) == ("dyn", "varchar")
    assert client.describe_index(name, "doc/a/b")["json_path"] == 'doc["a"]["b"]'
    other_cast = create(stub, name, "doc", "INVERTED", json_path='doc["a"]["b"]', json_cast_type="bool")
    assert_refused(other_cast, 1100, "at most one distinct index is allowed per field")
    other_name = create(stub, name, "doc", "INVERTED", "two", json_path='doc["a"]["b"]', json_cast_type="double")
    assert_refused(other_name, 1100, "CreateIndex failed: creating multiple indexes on same field is not supported")
    assert_refused(create(stub, name, "i64", "INVERTED", "mine"), 1100, "at most one distinct index is allowed")
    assert_refused(create(stub, name, "i64", "INVERTED", "1st"), 1100, "The first character of a index name must be")
    assert_refused(create(stub, name, "i64", "INVERTED", "a b"), 1100, "Index name can only contain numbers")
    for index_name in names:
        client.drop_index(name, index_name)
    assert client.list_indexes(name) == ["vec"]


def test_with_its_index_numbers_in_texts_are_found_in_all_rows_indexed_or_not(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    name = collection_name
    make(client, name)
    client.load_collection(name)
    prices = [{"doc": {"price": value}} for value in (5, "5", "5.5", "x", None, 7)]
    small = [{**row, **prices[row["id"] % 6]} for row in rows(0, 2 * ROWS)]
    client.insert(name, small[:ROWS])
    client.flush(name)
    client.insert(name, small[ROWS:])
    texts = {
        'doc["price"] == 5': ((0,), (0, 1)),
        'doc["price"] in [5, 7]': ((0, 5), (0, 1, 5)),
        'doc["price"] > 5.2': ((5,), (2, 5)),
        'doc["price"] != 5': ((5,), (2, 5)),
        'doc["price"] == "5"': ((1,), (1,)),
    }

    def found() -> dict[str, list[int]]:
        return {text: ids_of(client, name, text) for text in texts}

    def expected(which: int) -> dict[str, list[int]]:
        return {text: [i for i in range(2 * ROWS) if i % 6 in left[which]] for text, left in texts.items()}

    assert found() == expected(0)
    given = {"json_path": 'doc["price"]', "json_cast_type": "DOUBLE", "json_cast_function": "STRING_TO_DOUBLE"}
    plain_bytes = loaded_bytes(client, name)
    assert_ok(create(stub, name, "doc", "INVERTED", "numbers", **given))
    assert_ok(create(stub, name, "doc", "INVERTED", "all", json_path="doc", json_cast_type="JSON"))
    assert found() == expected(1)
    wait_indexed(client, name, "numbers", ROWS)
    wait_indexed(client, name, "all", ROWS)
    until(lambda: loaded_bytes(client, name) > plain_bytes, "no index was loaded")
    assert found() == expected(1)
    assert client.describe_index(name, "numbers")["json_cast_function"] == "STRING_TO_DOUBLE"
    client.delete(name, filter='doc["price"] > 5.2')
    assert ids_of(client, name, 'doc["price"] > 5.2') == []
    assert len(ids_of(client, name, 'doc["price"] == 5')) == 2 * ROWS // 3
    client.drop_index(name, "numbers")
    assert ids_of(client, name, 'doc["price"] == 5') == expected(0)['doc["price"] == 5']


def test_a_scalar_index_alone_does_not_load_a_collection(client: MilvusClient, stub: Any, collection_name: str) -> None:
    """IX-04"""
    make_c1(client, collection_name, index=False)
    assert_ok(create(stub, collection_name, "a", "STL_SORT"))
    loaded = stub.LoadCollection(milvus_pb2.LoadCollectionRequest(collection_name=collection_name))
    assert_refused(loaded, 1100, "there is no vector index on field: [vec], please create index firstly")


def test_filters_answer_the_same_while_indexes_are_built_merged_restarted_and_dropped(
    new_server: ServerFactory,
) -> None:
    """IX-07, IX-10; the indexes are counted in memory while they are loaded."""
    server = new_server(env={"MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "600"})
    client, stub, name = server.client(), server.stub, "c"
    make(client, name)
    client.load_collection(name)
    for first in (0, ROWS):
        client.insert(name, rows(first))
        client.flush(name)
    client.delete(name, ids=[1195])
    client.insert(name, rows(2 * ROWS, 50))
    truth = {text: ids_of(client, name, text) for text in FILTERS}
    assert [text for text, found in truth.items() if not found] == []
    plain_bytes = loaded_bytes(client, name)

    names = index_everything(client, stub, name, 2 * ROWS)
    assert len(names) == 16
    until(lambda: loaded_bytes(client, name) > plain_bytes + 16 * 8 * ROWS, "no index was loaded")
    assert {text: ids_of(client, name, text) for text in FILTERS} == truth
    hits = client.search(name, [[0.0, 0.0]], limit=3, filter="i64 in [5, 6, 2000]", output_fields=["text"])[0]
    assert [(hit["id"], hit["entity"]["text"]) for hit in hits] == [(5, "k5"), (6, "k6"), (2000, "k2000")]

    job = client.compact(name)
    until(lambda: client.get_compaction_state(job) == "Completed", "not compacted")
    until(lambda: len(client.list_loaded_segments(name)) == 1, "the sources are still loaded")
    for index_name in names:
        wait_indexed(client, name, index_name, client.describe_index(name, index_name)["total_rows"])
    assert {text: ids_of(client, name, text) for text in FILTERS} == truth

    client.close()
    server.stop()
    assert damages(server.data_dir) == []
    path = max((server.data_dir / "segments").rglob("*.index"))
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert [path.name in text for text in damages(server.data_dir)] == [True]
    path.write_bytes(content)
    server.start()
    client, stub = server.client(), server.stub
    until(lambda: client.get_load_state(name)["state"].name == "Loaded", "not loaded again")
    assert {text: ids_of(client, name, text) for text in FILTERS} == truth
    indexed_bytes = loaded_bytes(client, name)
    for index_name in names:
        client.drop_index(name, index_name)
    assert client.list_indexes(name) == ["vec"]
    until(lambda: loaded_bytes(client, name) < indexed_bytes - 16 * 4 * ROWS, "the indexes are still in memory")
    assert {text: ids_of(client, name, text) for text in FILTERS} == truth
    left = {p.name for p in (server.data_dir / "segments").rglob("*.index")}
    assert not left
    client.close()


def test_the_index_of_a_field_that_is_not_loaded_is_not_loaded(client: MilvusClient, collection_name: str) -> None:
    make_c1(client, collection_name)
    points = np.random.default_rng(1).normal(size=(ROWS, 4))
    client.insert(collection_name, [{"id": i, "vec": p, "a": i} for i, p in enumerate(points)])
    client.flush(collection_name)
    add_index(client, collection_name, "a", "INVERTED")
    wait_indexed(client, collection_name, "a", ROWS)
    client.load_collection(collection_name, load_fields=["id", "vec"])
    without = loaded_bytes(client, collection_name)
    client.release_collection(collection_name)
    client.load_collection(collection_name)
    assert loaded_bytes(client, collection_name) - without > 2 * 8 * ROWS
    assert ids_of(client, collection_name, "a == 7 or a > 1190") == [7, *range(1191, 1200)]


@pytest.mark.one_process("its limit is a share of what one replica took in one process")
def test_an_index_that_does_not_fit_is_left_out_and_the_rows_are_served(new_server: ServerFactory) -> None:
    server = new_server()
    client, stub = server.client(), server.stub
    make_c1(client, "c", load=True)
    points = np.random.default_rng(1).normal(size=(2 * ROWS, 4))
    client.insert("c", [{"id": i, "vec": p, "a": i} for i, p in enumerate(points)])
    client.flush("c")
    until(lambda: loaded_bytes(client, "c"), "not loaded")
    plain_bytes = loaded_bytes(client, "c")
    client.close()
    server.stop()

    limited = new_server(env={"MILVINE_MEMORY_LIMIT": str(plain_bytes + 1000)}, data_dir=server.data_dir)
    client, stub = limited.client(), limited.stub
    until(lambda: loaded_bytes(client, "c") == plain_bytes, "not loaded again")
    assert_ok(create(stub, "c", "a", "INVERTED"))
    wait_indexed(client, "c", "a", 2 * ROWS)
    assert ids_of(client, "c", "a == 7") == [7]
    assert loaded_bytes(client, "c") == plain_bytes
    client.release_collection("c")
    until(lambda: not estimate(limited, "c")["fits"], "the new indexes are not counted")
    loaded = stub.LoadCollection(milvus_pb2.LoadCollectionRequest(collection_name="c"))
    assert_refused(loaded, 3, "memory limit exceeded")
    client.drop_index("c", "a")
    client.load_collection("c")
    assert loaded_bytes(client, "c") == plain_bytes
    client.close()
