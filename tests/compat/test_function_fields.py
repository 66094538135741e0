"""Functions that are added to collections with rows, dropped and altered; fields that are dropped."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import ServerFactory
from directory_check import damages
from grpc_calls import assert_refused
from load_calls import gate, until
from pymilvus import DataType, FieldSchema, Function, FunctionType, MilvusClient, MilvusException
from pymilvus.grpc_gen import milvus_pb2
from sample_collections import add_index, ids_of

VECTOR = [1.0, 0.0, 0.0, 0.0]
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]
BM25 = Function("bm25", FunctionType.BM25, ["text"], ["terms"])
TERMS = FieldSchema("terms", DataType.SPARSE_FLOAT_VECTOR)
MINHASH = Function("minhash", FunctionType.MINHASH, ["text"], ["bits"])
BITS = FieldSchema("bits", DataType.BINARY_VECTOR, dim=128)


def _schema(client: MilvusClient) -> Any:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    schema.add_field("text", DataType.VARCHAR, max_length=1000, enable_analyzer=True, nullable=True)
    schema.add_field("a", DataType.INT64, nullable=True)
    return schema


def _make(client: MilvusClient, name: str) -> None:
    client.create_collection(name, schema=_schema(client), consistency_level="Strong")
    add_index(client, name, "vec", "FLAT", "L2")
    client.load_collection(name)


def _text(key: int) -> str | None:
    if key % 7 == 3:
        return None
    choose = random.Random(key)
    return " ".join([*choose.choices(WORDS, k=choose.randint(1, 9)), f"own{key}"])


def _rows(*ids: int) -> list[dict[str, Any]]:
    return [{"id": i, "vec": VECTOR, "text": _text(i), "a": i} for i in ids]


def _index(client: MilvusClient, field: str, index_type: str, metric: str) -> Any:
    params = client.prepare_index_params()
    params.add_index(field, index_type=index_type, metric_type=metric)
    return params


def _add_bm25(client: MilvusClient, name: str) -> None:
    index = _index(client, "terms", "SPARSE_INVERTED_INDEX", "BM25")
    client.add_function_field(name, TERMS, BM25, index_params=index, retry_times=0)


def _hits(client: MilvusClient, name: str, text: str, field: str = "terms") -> dict[int, float]:
    found = client.search(name, [text], anns_field=field, limit=200)[0]
    return {hit["id"]: round(hit["distance"], 4) for hit in found}


def _reference(client: MilvusClient, name: str, keys: list[int]) -> str:
    """A collection whose function was there from the beginning."""
    schema = _schema(client)
    schema.add_field("terms", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(BM25)
    client.create_collection(name, schema=schema, consistency_level="Strong")
    add_index(client, name, "vec", "FLAT", "L2")
    add_index(client, name, "terms", "SPARSE_INVERTED_INDEX", "BM25")
    client.load_collection(name)
    client.insert(name, _rows(*keys))
    return name


def _filled(client: MilvusClient, name: str, rows: int) -> None:
    until(lambda: client.describe_index(name, "terms")["pending_index_rows"] == 0, "the index is not built")
    until(lambda: len(_hits(client, name, " ".join(WORDS))) == rows, "the field is not filled")


@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "not loaded"])
def test_an_added_function_makes_the_outputs_of_sealed_and_growing_rows(
    client: MilvusClient, collection_name: str, loaded: bool
) -> None:
    name, others = collection_name, f"{collection_name}_reference"
    _make(client, name)
    for first in (0, 40, 80):
        client.insert(name, _rows(*range(first, first + 40)))
        if first < 80:
            client.flush(name)
    client.upsert(name, _rows(*range(5)))
    client.delete(name, ids=[119])
    if not loaded:
        client.release_collection(name)
    _add_bm25(client, name)
    client.insert(name, _rows(*range(120, 130)))
    if not loaded:
        client.load_collection(name)
    with_text = [key for key in range(130) if _text(key) and key != 119]
    _filled(client, name, len(with_text))

    described = client.describe_collection(name)
    (field,) = (f for f in described["fields"] if f["name"] == "terms")
    (function,) = described["functions"]
    assert (field["field_id"], field["is_function_output"]) == (104, True)
    assert (function["name"], function["output_field_names"], function["output_field_ids"]) == (
        "bm25",
        ["terms"],
        [104],
    )
    assert client.describe_index(name, "terms")["index_type"] == "SPARSE_INVERTED_INDEX"
    assert described["properties"]["max_field_id"] == "104"

    _reference(client, others, [key for key in range(130) if key != 119])
    for _ in range(2):
        for text in ("alpha", "beta own7", "gamma delta delta", "nowhere"):
            assert _hits(client, name, text).keys() == _hits(client, others, text).keys(), text
        client.flush(name)
        client.compact(name)
        client.release_collection(name)
        client.load_collection(name)
    assert _hits(client, name, "own5").keys() == {5}
    assert [row["id"] for row in client.query(name, "id in [3, 4, 121]", output_fields=["*"])] == [3, 4, 121]
    with pytest.raises(MilvusException, match="not allowed to retrieve raw data of field terms"):
        client.query(name, "id == 1", output_fields=["terms"])


def test_scores_are_those_of_a_function_that_was_always_there(client: MilvusClient, collection_name: str) -> None:
    name, others = collection_name, f"{collection_name}_reference"
    _make(client, name)
    client.insert(name, _rows(*range(50)))
    client.flush(name)
    client.insert(name, _rows(*range(50, 60)))
    _add_bm25(client, name)
    _filled(client, name, sum(bool(_text(key)) for key in range(60)))
    _reference(client, others, [*range(60)])
    for text in ("alpha beta", "own58 gamma", "zeta zeta eta"):
        assert _hits(client, name, text) == _hits(client, others, text)


def test_an_added_minhash_function_has_the_signatures_of_one_that_was_always_there(
    client: MilvusClient, collection_name: str
) -> None:
    name, others = collection_name, f"{collection_name}_reference"
    schema = _schema(client)
    schema.add_field("bits", DataType.BINARY_VECTOR, dim=128)
    schema.add_function(MINHASH)
    client.create_collection(others, schema=schema, consistency_level="Strong")
    add_index(client, others, "vec", "FLAT", "L2")
    add_index(client, others, "bits", "MINHASH_LSH", "MHJACCARD", mh_lsh_band=4)
    client.load_collection(others)
    _make(client, name)
    for one in (name, others):
        client.insert(one, _rows(*range(20)))
        client.flush(one)
        client.insert(one, _rows(*range(20, 30)))
    request = _addition(name, MINHASH, BITS)
    assert client._get_connection()._stub.AlterCollectionSchema(request).alter_status.code == 0
    described = client.describe_index(name, "bits")
    assert (described["index_type"], described["metric_type"]) == ("AUTOINDEX", "MHJACCARD")

    def signatures(one: str) -> dict[int, bytes]:
        rows = client.query(one, "id >= 0", output_fields=["bits"])
        return {row["id"]: bytes(row["bits"][0]) for row in rows}

    until(lambda: signatures(name) == signatures(others), "the signatures differ")
    assert len(signatures(name)) == 30


def _addition(name: str, function: Any, field: Any, **index: str) -> Any:
    request = milvus_pb2.AlterCollectionSchemaRequest(collection_name=name)
    added = request.action.add_request
    info = added.field_infos.add(index_name=index.pop("index_name", ""))
    info.field_schema.name, info.field_schema.data_type = field.name, field.dtype
    info.field_schema.nullable = bool(field.nullable)
    for key, value in field.params.items():
        info.field_schema.type_params.add(key=key, value=str(value))
    for key, value in index.items():
        info.extra_params.add(key=key, value=value)
    sent = added.func_schema.add(name=function.name, type=function.type)
    sent.input_field_names.extend(function.input_field_names)
    sent.output_field_names.extend(function.output_field_names)
    for key, value in function.params.items():
        sent.params.add(key=key, value=str(value))
    return request


SPARSE = DataType.SPARSE_FLOAT_VECTOR
_REFUSED: list[tuple[Any, Any, dict[str, str], int, str]] = [
    (BM25, FieldSchema("vec", SPARSE), {}, 1100, "duplicated field name vec"),
    (
        BM25,
        FieldSchema("other", SPARSE),
        {},
        1100,
        'function output field "terms" must be the newly-added field "other"',
    ),
    (BM25, FieldSchema("terms", DataType.FLOAT_VECTOR, dim=4), {}, 1100, "BM25 function output field must be a Sparse"),
    (BM25, FieldSchema("terms", SPARSE, nullable=True), {}, 1100, "function output field cannot be nullable: function"),
    (Function("", FunctionType.BM25, ["text"], ["terms"]), TERMS, {}, 1101, "function name cannot be empty"),
    (Function("f", FunctionType.BM25, ["none"], ["terms"]), TERMS, {}, 1100, "function input field not found: none"),
    (
        Function("f", FunctionType.BM25, ["a"], ["terms"]),
        TERMS,
        {},
        1100,
        "BM25 function input field must be a VARCHAR",
    ),
    (Function("f", FunctionType.BM25, [], ["terms"]), TERMS, {}, 1100, "BM25 function should have exactly one input"),
    (
        Function("f", FunctionType.TEXTEMBEDDING, ["text"], ["terms"]),
        TERMS,
        {},
        1100,
        "For now, only BM25 and MinHash functions are supported in add_function_field interface",
    ),
    (
        BM25,
        TERMS,
        {"index_type": "AUTOINDEX", "bm25_b": "1"},
        1100,
        "only metric type can be passed when use AutoIndex",
    ),
    (BM25, TERMS, {"index_type": "HNSW", "metric_type": "BM25"}, 1100, "can't build with this index HNSW"),
    (BM25, TERMS, {"metric_type": "IP"}, 1100, "index metric type of BM25 function output field must be BM25, got IP"),
    (BM25, TERMS, {"index_name": "1x"}, 1100, "Invalid index name: 1x."),
    (BM25, TERMS, {"index_name": "vec"}, 1100, "index name vec already exists in collection"),
    (MINHASH, BITS, {"metric_type": "HAMMING"}, 1100, "index metric type of MinHash function output field must be MHJ"),
]


def test_a_refused_function_changes_nothing(client: MilvusClient, stub: Any, collection_name: str) -> None:
    _make(client, collection_name)
    client.insert(collection_name, _rows(1, 2))
    before = client.describe_collection(collection_name)
    for function, field, index, code, text in _REFUSED:
        answer = stub.AlterCollectionSchema(_addition(collection_name, function, field, **index))
        assert_refused(answer.alter_status, code, text)
    missing = stub.AlterCollectionSchema(_addition("nowhere", BM25, TERMS)).alter_status
    assert_refused(missing, 100, "can't find collection[database=default][collection=nowhere]")
    assert client.describe_collection(collection_name) == before
    assert client.list_indexes(collection_name) == ["vec"]
    _add_bm25(client, collection_name)
    answer = stub.AlterCollectionSchema(_addition(collection_name, BM25, FieldSchema("more", SPARSE)))
    assert_refused(answer.alter_status, 1100, 'must be the newly-added field "more"')
    again = Function("bm25", FunctionType.BM25, ["text"], ["more"])
    answer = stub.AlterCollectionSchema(_addition(collection_name, again, FieldSchema("more", SPARSE)))
    assert_refused(answer.alter_status, 1100, "duplicate function name: bm25")


def test_a_dropped_function_goes_with_its_field_and_index(client: MilvusClient, collection_name: str) -> None:
    name = collection_name
    _make(client, name)
    client.insert(name, _rows(*range(10)))
    client.flush(name)
    _add_bm25(client, name)
    client.insert(name, _rows(*range(10, 20)))
    _filled(client, name, sum(bool(_text(key)) for key in range(20)))
    for field in ("text", "terms"):
        what = "input" if field == "text" else "output"
        with pytest.raises(MilvusException, match=f"referenced by function bm25 as {what}, drop function first"):
            client.drop_collection_field(name, field_name=field, retry_times=0)
    client.drop_function_field(name, "bm25", retry_times=0)
    described = client.describe_collection(name)
    assert [f["name"] for f in described["fields"]] == ["id", "vec", "text", "a"]
    assert (described["functions"], client.list_indexes(name)) == ([], ["vec"])
    with pytest.raises(MilvusException, match="terms"):
        client.search(name, ["alpha"], anns_field="terms", limit=3)
    client.insert(name, _rows(20))
    _add_bm25(client, name)
    (field,) = (f for f in client.describe_collection(name)["fields"] if f["name"] == "terms")
    assert field["field_id"] == 105
    _filled(client, name, sum(bool(_text(key)) for key in range(21)))
    assert _hits(client, name, "own20").keys() == {20}


def test_a_dropped_field_is_gone_from_all_rows(client: MilvusClient, stub: Any, collection_name: str) -> None:
    name = collection_name
    _make(client, name)
    add_index(client, name, "a", "STL_SORT", "")
    client.insert(name, _rows(*range(4)))
    client.flush(name)
    client.insert(name, _rows(*range(4, 8)))
    assert ids_of(client, name, "a > 5") == [6, 7]
    client.drop_collection_field(name, field_name="a", retry_times=0)
    rows = client.query(name, "id >= 0", output_fields=["*"])
    assert [(row["id"], sorted(row)) for row in rows] == [(i, ["id", "text", "vec"]) for i in range(8)]
    assert client.list_indexes(name) == ["vec"]
    with pytest.raises(MilvusException, match="field a not exist"):
        client.query(name, "a > 5")
    with pytest.raises(MilvusException, match="Attempt to insert an unexpected field `a` to collection"):
        client.insert(name, _rows(9))
    client.add_collection_field(name, "a", DataType.VARCHAR, max_length=9, nullable=True)
    for _ in range(2):
        assert {row["a"] for row in client.query(name, "id >= 0", output_fields=["a"])} == {None}
        client.flush(name)
        client.compact(name)
        client.release_collection(name)
        client.load_collection(name)
    by_id = milvus_pb2.AlterCollectionSchemaRequest(collection_name=name)
    for number, code, text in (
        (104, 0, ""),
        (104, 1100, "field not found with id: 104"),
        (100, 1100, "primary key field"),
    ):
        by_id.action.drop_request.field_id = number
        status = stub.AlterCollectionSchema(by_id).alter_status
        assert (status.code, text in status.reason) == (code, True), status
    for field, text in (("id", "cannot drop primary key field: id"), ("vec", "cannot drop the last vector field: vec")):
        with pytest.raises(MilvusException, match=text):
            client.drop_collection_field(name, field_name=field, retry_times=0)
    with pytest.raises(MilvusException, match="field not found: nothing"):
        client.drop_collection_field(name, field_name="nothing", retry_times=0)


def test_a_field_whose_values_name_analyzers_stays(client: MilvusClient, collection_name: str) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=4)
    schema.add_field("language", DataType.VARCHAR, max_length=20)
    several = {"by_field": "language", "analyzers": {"default": {}, "english": {"type": "english"}}}
    schema.add_field("text", DataType.VARCHAR, max_length=1000, enable_analyzer=True, multi_analyzer_params=several)
    client.create_collection(collection_name, schema=schema, consistency_level="Strong")
    add_index(client, collection_name, "vec", "FLAT", "L2")
    client.load_collection(collection_name)
    rows = [("english", "many houses"), ("french", "many houses"), ("english", "old maisons")]
    client.insert(
        collection_name,
        [{"id": i, "vec": VECTOR, "language": language, "text": text} for i, (language, text) in enumerate(rows)],
    )
    client.flush(collection_name)
    _add_bm25(client, collection_name)
    until(lambda: _searched(client, collection_name, "house") == [0], "the field is not filled")
    with pytest.raises(MilvusException, match="cannot drop field language because its values name the analyzers"):
        client.drop_collection_field(collection_name, field_name="language", retry_times=0)


def _searched(client: MilvusClient, name: str, text: str) -> list[int]:
    found = client.search(name, [text], anns_field="terms", limit=9, search_params={"analyzer_name": "english"})[0]
    return [hit["id"] for hit in found]


def test_only_functions_that_call_models_are_altered(client: MilvusClient, stub: Any, collection_name: str) -> None:
    _make(client, collection_name)
    _add_bm25(client, collection_name)
    unknown = Function("f", FunctionType.TEXTEMBEDDING, ["text"], ["vec"], params={"provider": "openai"})

    def answer(name: str, function: Any) -> Any:
        request = milvus_pb2.AlterCollectionFunctionRequest(collection_name=collection_name, function_name=name)
        sent = request.functionSchema
        sent.name, sent.type = function.name, function.type
        sent.input_field_names.extend(function.input_field_names)
        sent.output_field_names.extend(function.output_field_names)
        return stub.AlterCollectionFunction(request)

    assert_refused(answer("bm25", BM25), 1100, "currently does not support alter BM25 function")
    assert_refused(answer("g", unknown), 1100, "invalid function config, name not match")
    assert_refused(answer("f", unknown), 1100, "function f not found")
    bm25 = Function("bm25", FunctionType.TEXTEMBEDDING, ["text"], ["terms"])
    assert_refused(answer("bm25", bm25), 1100, "function type cannot be altered: function bm25")
    nothing = milvus_pb2.AlterCollectionFunctionRequest(collection_name=collection_name, function_name="bm25")
    assert_refused(stub.AlterCollectionFunction(nothing), 1100, "function schema is empty")


_POINTS = ["fill.column_written", "fill.committed", "add_field.prepared", "add_field.committed"]
_MORE_POINTS = ["fill.child_done", "fill.files_written", "drop_field.prepared", "drop_field.committed"]


@pytest.mark.parametrize("point", [*_POINTS, *(pytest.param(p, marks=pytest.mark.nightly) for p in _MORE_POINTS)])
def test_a_crash_leaves_the_function_whole_or_absent(new_server: ServerFactory, tmp_path: Path, point: str) -> None:
    data_dir = tmp_path / "data"
    server = new_server(data_dir=data_dir, env={"MILVINE_CRASH_AT": point})
    client = MilvusClient(server.uri)
    _make(client, "c")
    client.insert("c", _rows(*range(20)))
    client.flush("c")
    client.insert("c", _rows(*range(20, 30)))
    _until_dead(lambda: _add_bm25(client, "c"))
    if point.startswith("drop_field"):
        _until_dead(lambda: client.drop_function_field("c", "bm25", retry_times=0))
    client.close()
    assert server.process.wait(20) == -signal.SIGKILL, "the server never passed the point"
    assert damages(data_dir) == []

    client = MilvusClient(new_server(data_dir=data_dir).uri)
    functions = [f["name"] for f in client.describe_collection("c")["functions"]]
    assert functions == ([] if point in ("add_field.prepared", "drop_field.committed") else ["bm25"])
    assert client.has_collection("c") and ("terms" in client.list_indexes("c")) == bool(functions)
    if not functions:
        _add_bm25(client, "c")
    client.insert("c", _rows(*range(30, 40)))
    _filled(client, "c", sum(bool(_text(key)) for key in range(40)))
    for key in (2, 25, 35):
        assert _hits(client, "c", f"own{key}").keys() == {key}
    client.close()


def test_rows_sealed_while_a_function_is_added_have_no_column_of_a_field_that_never_was(
    new_server: ServerFactory, tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    with gate(tmp_path, "add_field.prepared") as held, ThreadPoolExecutor() as pool:
        server = new_server(data_dir=data_dir, env=held.environment)
        client = MilvusClient(server.uri)
        _make(client, "c")
        client.insert("c", _rows(*range(20)))
        call = pool.submit(_until_dead, lambda: _add_bm25(client, "c"))
        time.sleep(1)
        assert not call.done()
        client.flush("c")
        assert [f["name"] for f in client.describe_collection("c")["fields"]] == ["id", "vec", "text", "a"]
        server.process.kill()
        call.result(60)
        client.close()
    assert damages(data_dir) == []

    client = MilvusClient(new_server(data_dir=data_dir).uri)
    client.add_collection_field("c", "b", DataType.INT64, nullable=True, default_value=7)
    assert ids_of(client, "c", "b == 7") == list(range(20))
    _add_bm25(client, "c")
    _filled(client, "c", sum(bool(_text(key)) for key in range(20)))
    client.close()


def _until_dead(call: Callable[[], None]) -> None:
    with contextlib.suppress(MilvusException, grpc.RpcError):
        call()
