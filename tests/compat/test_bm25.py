"""BM25 functions: their schema, the vectors they make, and searches for texts, compared with a slow reference."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest
import requests
from conftest import Server, ServerFactory
from pymilvus import (
    AnnSearchRequest,
    DataType,
    Function,
    FunctionType,
    MilvusClient,
    MilvusException,
    RRFRanker,
    WeightedRanker,
)
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2
from sample_collections import add_index, wait_indexed

K = 10
QUERIES = ("w1 w2 w3", "W5, w5 w200", "w299 unknown", "", "w0")
Texts = dict[int, str | None]


def new_schema(client: MilvusClient, **text: Any) -> Any:
    """id, text, group (nullable), sparse (made from the text by BM25) and dense."""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("text", DataType.VARCHAR, max_length=1000, **{"enable_analyzer": True, "nullable": True, **text})
    schema.add_field("group", DataType.INT64, nullable=True)
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_field("dense", DataType.FLOAT_VECTOR, dim=2)
    schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["sparse"]))
    return schema


def make(client: MilvusClient, name: str, index_type: str = "AUTOINDEX", **params: Any) -> None:
    client.create_collection(name, schema=new_schema(client))
    add_index(client, name, "sparse", index_type, "BM25", **params)
    add_index(client, name, "dense", "FLAT", "L2")
    client.load_collection(name)


def new_texts(keys: Iterable[int], seed: int) -> Texts:
    """Up to 20 of 300 words; small ones are frequent. A few texts are missing."""
    random = np.random.default_rng(seed)

    def text() -> str | None:
        words = (300 * random.random(random.integers(0, 20)) ** 2).astype(int)
        return None if random.random() < 0.05 else " ".join(f"w{word}" for word in words)

    return {key: text() for key in keys}


def row(key: int, text: str | None, **more: Any) -> dict[str, Any]:
    return {"id": key, "text": text, "dense": [float(key), 0.0], **more}


def insert(client: MilvusClient, name: str, texts: Texts, **options: Any) -> None:
    client.insert(name, [row(key, text, group=key % 7) for key, text in texts.items()], **options)


def terms_of(text: str | None) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in (text or "").lower()).split()


def reference(texts: Mapping[int, str | None], query: str, k1: float = 1.2, b: float = 0.75) -> dict[int, float]:
    """The score of each text that has a term of the query; all texts count, missing ones too."""
    split = {key: terms_of(text) for key, text in texts.items()}
    mean = sum(map(len, split.values())) / len(split)
    rows_with = Counter(term for terms in split.values() for term in set(terms))
    scores: dict[int, float] = {}
    for key, terms in split.items():
        for term, times in Counter(terms_of(query)).items():
            tf = terms.count(term)
            if tf:
                idf = math.log(1 + (len(split) - rows_with[term] + 0.5) / (rows_with[term] + 0.5))
                part = times * idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * len(terms) / mean))
                scores[key] = scores.get(key, 0) + part
    return scores


def check(client: MilvusClient, name: str, counted: Texts, alive: Iterable[int] | None = None, **options: Any) -> None:
    """The answers of all queries are those of the reference. `alive`: the keys that may be found; None: all."""
    params = {k: options.pop(k) for k in ("k1", "b") if k in options}
    limit = options.pop("limit", K)
    found = client.search(name, list(QUERIES), anns_field="sparse", limit=limit, **options)
    kept = set(counted if alive is None else alive)
    for query, hits in zip(QUERIES, found, strict=True):
        scores = {key: score for key, score in reference(counted, query, **params).items() if key in kept}
        wanted = sorted(scores.values(), reverse=True)[:limit]
        assert np.allclose([hit["distance"] for hit in hits], wanted, rtol=1e-4)
        assert np.allclose([scores[hit["id"]] for hit in hits], wanted, rtol=1e-4)


@pytest.mark.parametrize("index_type", ["AUTOINDEX", "SPARSE_INVERTED_INDEX"])
def test_scores_are_those_of_the_formula_while_rows_grow_are_sealed_indexed_and_merged(
    client: MilvusClient, collection_name: str, index_type: str
) -> None:
    make(client, collection_name, index_type)
    texts = new_texts(range(300), 1)
    insert(client, collection_name, texts)
    check(client, collection_name, texts)
    client.flush(collection_name)
    check(client, collection_name, texts)
    more = new_texts(range(300, 1700), 2)
    insert(client, collection_name, more)
    texts |= more
    check(client, collection_name, texts)
    client.flush(collection_name)
    check(client, collection_name, texts)
    wait_indexed(client, collection_name, "sparse", 1700)
    check(client, collection_name, texts)
    insert(client, collection_name, {1700: "w299 w1", 1701: "w1"})
    check(client, collection_name, texts | {1700: "w299 w1", 1701: "w1"})


@pytest.mark.parametrize("key_type", [DataType.INT64, DataType.VARCHAR])
@pytest.mark.parametrize("copies", [0, 30])
def test_equal_scores_come_in_the_order_of_the_keys_and_a_key_once(
    client: MilvusClient, collection_name: str, key_type: DataType, copies: int
) -> None:
    schema = client.create_schema()
    schema.add_field("id", key_type, is_primary=True, max_length=20)
    schema.add_field("text", DataType.VARCHAR, max_length=100, enable_analyzer=True)
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["sparse"]))
    client.create_collection(collection_name, schema=schema)
    add_index(client, collection_name, "sparse", "AUTOINDEX", "BM25")
    client.load_collection(collection_name)
    random = np.random.default_rng(copies)
    keys = [int(key) if key_type is DataType.INT64 else f"k{key}" for key in random.permutation(2000)]
    texts = [" ".join(f"w{word}" for word in sorted(random.integers(0, 8, 3))) for _ in keys]
    rows = [{"id": key, "text": text} for key, text in zip(keys, texts, strict=True)]
    client.insert(collection_name, [*rows, *rows[:copies]])
    client.upsert(collection_name, rows[500:530])
    client.flush(collection_name)
    wait_indexed(client, collection_name, "sparse", 2030 + copies)
    for query in ("w1", "w1 w2 w3"):
        (everything,) = client.search(collection_name, [query], anns_field="sparse", limit=2000)
        pairs = [(-hit["distance"], hit["id"]) for hit in everything]
        assert pairs == sorted(pairs)
        assert len({key for _, key in pairs}) == len(pairs) > 500
        for limit in (1, 7, 10, 100):
            (first,) = client.search(collection_name, [query], anns_field="sparse", limit=limit)
            assert [(-hit["distance"], hit["id"]) for hit in first] == pairs[:limit]


def test_k1_and_b_of_the_index_change_the_scores(client: MilvusClient, collection_name: str) -> None:
    make(client, collection_name, "SPARSE_WAND", params={"bm25_k1": 0.3, "bm25_b": 0.1})
    texts = new_texts(range(200), 3)
    insert(client, collection_name, texts)
    check(client, collection_name, texts, k1=0.3, b=0.1)
    described = client.describe_index(collection_name, "sparse")
    assert (described["index_type"], described["metric_type"]) == ("SPARSE_WAND", "BM25")


def test_filters_partitions_pages_and_ranges_keep_the_statistics_of_all_rows(
    client: MilvusClient, collection_name: str
) -> None:
    make(client, collection_name)
    client.create_partition(collection_name, "other")
    texts, others = new_texts(range(500), 5), new_texts(range(500, 700), 6)
    insert(client, collection_name, texts)
    insert(client, collection_name, others, partition_name="other")
    everything = texts | others
    check(client, collection_name, everything, [k for k in everything if k % 7 == 3], filter="group == 3")
    check(client, collection_name, everything, others, partition_names=["other"])
    scores = reference(everything, QUERIES[0])
    ranked = sorted(scores.values(), reverse=True)
    page = client.search(collection_name, [QUERIES[0]], anns_field="sparse", limit=5, offset=5)[0]
    assert np.allclose([hit["distance"] for hit in page], ranked[5:10], rtol=1e-4)
    low, high = (ranked[20] + ranked[21]) / 2, (ranked[9] + ranked[10]) / 2
    band = {"params": {"radius": low, "range_filter": high}}
    inside = client.search(collection_name, [QUERIES[0]], anns_field="sparse", limit=50, search_params=band)[0]
    assert np.allclose([hit["distance"] for hit in inside], ranked[10:21], rtol=1e-4)


def test_groups_iterators_and_hybrid_searches_take_texts(client: MilvusClient, collection_name: str) -> None:
    make(client, collection_name)
    texts = new_texts(range(600), 7)
    insert(client, collection_name, texts)
    scores = reference(texts, QUERIES[0])
    best = sorted(scores, key=lambda key: (-scores[key], key))
    grouped = client.search(
        collection_name, [QUERIES[0]], anns_field="sparse", limit=7, group_by_field="group", output_fields=["group"]
    )[0]
    wanted = sorted((max(s for key, s in scores.items() if key % 7 == g) for g in range(7)), reverse=True)
    assert np.allclose([hit["distance"] for hit in grouped], wanted, rtol=1e-4)
    iterator = client.search_iterator(
        collection_name, [QUERIES[0]], batch_size=40, limit=100, anns_field="sparse", search_params={}
    )
    pages: list[Any] = []
    while page := iterator.next():
        pages += page
    iterator.close()
    assert np.allclose([hit["distance"] for hit in pages], [scores[key] for key in best[:100]], rtol=1e-4)
    sparse = AnnSearchRequest([QUERIES[0]], "sparse", {"metric_type": "BM25"}, limit=5)
    dense = AnnSearchRequest([[0.0, 0.0]], "dense", {"metric_type": "L2"}, limit=5)
    fused = client.hybrid_search(collection_name, [sparse, dense], RRFRanker(60), limit=10)[0]
    ranks = {key: 1 / (61 + n) for n, key in enumerate(range(5))}
    for n, key in enumerate(best[:5]):
        ranks[key] = ranks.get(key, 0) + 1 / (61 + n)
    assert np.allclose([hit["distance"] for hit in fused], sorted(ranks.values(), reverse=True), rtol=1e-4)
    weighed = client.hybrid_search(collection_name, [sparse, dense], WeightedRanker(1.0, 0.0), limit=10)[0]
    normal = [2 * math.atan(scores[key]) / math.pi for key in best[:5]]
    assert np.allclose([hit["distance"] for hit in weighed][:5], normal, rtol=1e-4)


def test_a_search_by_ids_searches_for_the_texts_of_the_rows(client: MilvusClient, collection_name: str) -> None:
    make(client, collection_name)
    texts: Texts = {1: "red fox", 2: "red hen", 3: "blue hen", 4: None}
    insert(client, collection_name, texts)
    by_ids = client.search(collection_name, ids=[1, 4, 3], anns_field="sparse", limit=3)
    assert [[hit["id"] for hit in hits] for hits in by_ids] == [[1, 2], [], [3, 2]]


def test_dropping_small_terms_of_the_query_leaves_exact_scores(client: MilvusClient, collection_name: str) -> None:
    make(client, collection_name, "SPARSE_INVERTED_INDEX")
    texts = new_texts(range(1500), 8)
    insert(client, collection_name, texts)
    client.flush(collection_name)
    wait_indexed(client, collection_name, "sparse", 1500)
    dropped = {"params": {"drop_ratio_search": 0.4}}
    query = "w0 w250 w260"
    found = client.search(collection_name, [query], anns_field="sparse", limit=5, search_params=dropped)[0]
    scores = reference(texts, query)
    assert found
    assert np.allclose([hit["distance"] for hit in found], [scores[hit["id"]] for hit in found], rtol=1e-4)


def test_upserts_whole_and_partial_make_the_vector_of_the_new_text(client: MilvusClient, collection_name: str) -> None:
    make(client, collection_name)
    texts: Texts = {1: "red fox", 2: "red hen", 3: "blue hen"}
    insert(client, collection_name, texts)

    def hits(query: str) -> list[int]:
        return sorted(hit["id"] for hit in client.search(collection_name, [query], anns_field="sparse", limit=9)[0])

    client.upsert(collection_name, [row(1, "green fox", group=1)])
    assert (hits("red"), hits("green"), hits("fox")) == ([2], [1], [1])
    client.upsert(collection_name, [{"id": 2, "text": "green owl"}], partial_update=True)
    assert (hits("red"), hits("green"), hits("hen")) == ([], [1, 2], [3])
    client.upsert(collection_name, [{"id": 3, "group": 9}], partial_update=True)
    client.upsert(collection_name, [{"id": 1, "text": None}], partial_update=True)
    assert (hits("blue hen"), hits("green")) == ([3], [2])
    assert client.query(collection_name, "id == 3", output_fields=["group"])[0]["group"] == 9


def test_a_restart_keeps_the_vectors_and_compaction_ends_the_count_of_deleted_rows(new_server: ServerFactory) -> None:
    server = new_server(env={"MILVINE_COMMON_RETENTIONDURATION": "0", "MILVINE_SEGMENT_MERGE_IDLE_SECONDS": "600"})
    client = server.client()
    make(client, "kept")
    texts = new_texts(range(300), 9)
    insert(client, "kept", {key: texts[key] for key in range(200)})
    client.flush("kept")
    insert(client, "kept", {key: texts[key] for key in range(200, 300)})
    described = client.describe_collection("kept")
    client.close()
    server.kill()
    server.start()
    client = server.client()
    assert client.describe_collection("kept") == described
    check(client, "kept", texts)
    client.delete("kept", ids=list(range(150)))
    check(client, "kept", texts, range(150, 300))
    client.flush("kept")
    time.sleep(0.01)  # the deletes are older than the retention of 0 s
    check(client, "kept", texts, range(150, 300))
    job = client.compact("kept")
    while client.get_compaction_state(job) != "Completed":
        time.sleep(0.05)
    check(client, "kept", {key: texts[key] for key in range(150, 300)})
    client.close()


def test_each_row_is_read_by_the_analyzer_that_it_names(client: MilvusClient, collection_name: str) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("language", DataType.VARCHAR, max_length=20)
    params = {
        "by_field": "language",
        "analyzers": {"english": {"type": "english"}, "default": {"tokenizer": "whitespace"}},
        "alias": {"en": "english"},
    }
    schema.add_field("text", DataType.VARCHAR, max_length=99, enable_analyzer=True, multi_analyzer_params=params)
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["sparse"]))
    client.create_collection(collection_name, schema=schema)
    add_index(client, collection_name, "sparse", "AUTOINDEX", "BM25")
    client.load_collection(collection_name)
    rows = [("en", "Running"), ("default", "Running"), ("martian", "Running")]
    client.insert(collection_name, [{"id": n, "language": a, "text": t} for n, (a, t) in enumerate(rows)])

    def hits(analyzer: str | None) -> list[int]:
        params = {} if analyzer is None else {"analyzer_name": analyzer}
        found = client.search(collection_name, ["Running"], anns_field="sparse", limit=9, search_params=params)[0]
        return sorted(hit["id"] for hit in found)

    assert (hits("english"), hits("en"), hits(None), hits("other")) == ([0], [0], [1, 2], [1, 2])


def test_the_output_of_a_function_is_neither_taken_nor_returned(
    client: MilvusClient, stub: Any, collection_name: str
) -> None:
    make(client, collection_name)
    insert(client, collection_name, {1: "red"})
    for names in (["sparse"], ["id", "sparse"]):
        with pytest.raises(MilvusException, match="not allowed to retrieve raw data of field sparse"):
            client.query(collection_name, "id == 1", output_fields=names)
        with pytest.raises(MilvusException, match="not allowed to retrieve raw data of field sparse"):
            client.search(collection_name, ["red"], anns_field="sparse", limit=1, output_fields=names)
    assert client.query(collection_name, "id == 1", output_fields=["*"])[0].keys() == {"id", "text", "group", "dense"}
    sparse = schema_pb2.FieldData(
        type=104,
        field_name="sparse",
        vectors=schema_pb2.VectorField(sparse_float_vector=schema_pb2.SparseFloatArray(contents=[b"\0" * 8], dim=1)),
    )
    request = milvus_pb2.InsertRequest(collection_name=collection_name, fields_data=[sparse], num_rows=1)
    assert "attempt to insert bm25 function output field" in stub.Insert(request).status.reason


def test_a_search_by_vectors_is_refused(client: MilvusClient, collection_name: str) -> None:
    make(client, collection_name)
    for data, sent in (([[0.1, 0.2]], "FloatVector"), ([{1: 0.5}], "SparseFloatVector")):
        with pytest.raises(
            MilvusException, match=f"please provide varchar/text for BM25 Function based search, got {sent}"
        ):
            client.search(collection_name, data, anns_field="sparse", limit=1)


@pytest.mark.parametrize(
    ("field", "index_type", "metric", "params", "reason"),
    [
        ("sparse", "SPARSE_INVERTED_INDEX", "IP", {}, "of BM25 function output field must be BM25, got IP"),
        ("sparse", "AUTOINDEX", "L2", {}, "of BM25 function output field must be BM25, got L2"),
        ("sparse", "HNSW", "BM25", {}, "can't build with this index HNSW"),
        ("sparse", "SPARSE_WAND", "BM25", {"bm25_b": 1.1}, r"param 'bm25_b' \(1.1\) should be in range"),
        ("sparse", "SPARSE_WAND", "BM25", {"bm25_k1": -1}, r"param 'bm25_k1' \(-1\) should be in range"),
        ("sparse", "SPARSE_WAND", "BM25", {"quant_type": "fp16"}, "quant_type for BM25 metric must be 'u16' or 'u32'"),
        ("dense", "HNSW", "BM25", {}, "float vector index does not support metric type: BM25"),
    ],
)
def test_wrong_indexes_are_refused(
    client: MilvusClient,
    stub: Any,
    collection_name: str,
    field: str,
    index_type: str,
    metric: str,
    params: Any,
    reason: str,
) -> None:
    client.create_collection(collection_name, schema=new_schema(client))
    with pytest.raises(MilvusException, match=reason):
        add_index(client, collection_name, field, index_type, metric, params=params)


def function(client: MilvusClient, *functions: Function, **text: Any) -> Any:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("text", DataType.VARCHAR, max_length=99, **{"enable_analyzer": True, **text})
    schema.add_field("plain", DataType.VARCHAR, max_length=99)
    schema.add_field("number", DataType.INT64)
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_field("maybe", DataType.SPARSE_FLOAT_VECTOR, nullable=True)
    schema.add_field("bits", DataType.BINARY_VECTOR, dim=64)
    for one in functions:
        schema.functions.append(one)
    return schema


def bm25(inputs: list[str], outputs: list[str], name: str = "f", **params: Any) -> Function:
    return Function(name, FunctionType.BM25, inputs, outputs, params=params or None)


@pytest.mark.parametrize(
    ("functions", "code", "reason"),
    [
        ([bm25(["text"], ["sparse"], "")], 1101, "function name cannot be empty"),
        ([bm25(["text"], ["sparse"], k1="2")], 1100, "BM25 function accepts no params"),
        ([bm25(["nope"], ["sparse"])], 1100, "function input field not found: nope"),
        ([bm25(["text"], ["nope"])], 1100, "function output field not found: nope"),
        ([bm25(["text"], ["maybe"])], 1100, "function output field cannot be nullable: function f, field maybe"),
        ([bm25(["plain"], ["sparse"])], 1100, "BM25 function input field must set enable_analyzer to true"),
        ([bm25(["number"], ["sparse"])], 1100, "must be a VARCHAR/TEXT field, got 1 field with type Int64"),
        ([bm25(["text"], ["bits"])], 1100, "must be a SparseFloatVector field, but got BinaryVector"),
        ([bm25(["text"], ["sparse"]), bm25(["text"], ["maybe"])], 1100, "duplicate function name: f"),
        ([bm25(["text"], ["sparse"]), bm25(["text"], ["sparse"], "g")], 1100, "duplicate function output field"),
        ([Function("f", FunctionType.RERANK, ["text"], ["sparse"])], 1100, "unknown function type"),
        (
            [Function("f", FunctionType.TEXTEMBEDDING, ["text"], ["sparse"], params={"provider": "openai"})],
            1100,
            "TextEmbedding function output field must be a FloatVector or Int8Vector field",
        ),
        (
            [Function("f", FunctionType.MINHASH, ["number"], ["bits"])],
            1100,
            "MinHash function input field must be a VARCHAR/TEXT field, got 1 field with type Int64",
        ),
        (
            [Function("f", FunctionType.MINHASH, ["plain"], ["sparse"])],
            1100,
            "MinHash function output field must be a BinaryVector field, but got SparseFloatVector",
        ),
    ],
)
def test_wrong_functions_are_refused(
    stub: Any, client: MilvusClient, collection_name: str, functions: list[Function], code: int, reason: str
) -> None:
    schema = function(client)
    sent = schema_pb2.CollectionSchema(name=collection_name)
    for field in schema.fields:
        one = sent.fields.add(name=field.name, data_type=field.dtype, is_primary_key=field.is_primary)
        one.nullable = bool(field.nullable)
        one.type_params.extend(
            common_pb2.KeyValuePair(key=k, value=str(v).lower()) for k, v in (field.params or {}).items()
        )
    for made in functions:
        one = sent.functions.add(name=made.name, type=int(made.type))
        one.input_field_names.extend(made.input_field_names)
        one.output_field_names.extend(made.output_field_names)
        one.params.extend(common_pb2.KeyValuePair(key=k, value=str(v)) for k, v in (made.params or {}).items())
    request = milvus_pb2.CreateCollectionRequest(
        collection_name=collection_name, schema=sent.SerializeToString(), shards_num=1
    )
    status = stub.CreateCollection(request)
    assert (status.code, reason in status.reason) == (code, True), status.reason
    assert not client.has_collection(collection_name)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"enable_analyzer": False, "enable_match": True}, "enable_match or is input of BM25 function must also"),
        ({"analyzer_params": {"type": "klingon"}}, "klingon"),
        ({"analyzer_params": {"tokenizer": "standard", "filters": []}}, "filters"),
        ({"multi_analyzer_params": {"analyzers": {"default": {}}}}, "must set by_field"),
        ({"multi_analyzer_params": {"by_field": "nope", "analyzers": {"default": {}}}}, "nope"),
        ({"multi_analyzer_params": {"by_field": "number", "analyzers": {"default": {}}}}, "is not string"),
        ({"multi_analyzer_params": {"by_field": "plain"}}, "must set analyzers"),
        ({"multi_analyzer_params": {"by_field": "plain", "analyzers": {"en": {}}}}, "must set default analyzer"),
        ({"multi_analyzer_params": {"by_field": "plain"}, "enable_match": True}, "only support for bm25"),
        ({"multi_analyzer_params": {"by_field": "plain"}, "analyzer_params": {}}, "should be none if has multi"),
    ],
)
def test_wrong_analyzers_are_refused(
    client: MilvusClient, collection_name: str, params: dict[str, Any], reason: str
) -> None:
    with pytest.raises(MilvusException, match=reason):
        client.create_collection(collection_name, schema=function(client, **params))
    assert not client.has_collection(collection_name)


def test_functions_and_analyzers_are_described_by_grpc_and_rest(
    client: MilvusClient, server: Server, collection_name: str
) -> None:
    client.create_collection(collection_name, schema=new_schema(client, analyzer_params={"type": "english"}))
    client.create_collection(collection_name, schema=new_schema(client, analyzer_params={"type": "english"}))
    described = client.describe_collection(collection_name)
    (made,) = described["functions"]
    assert (made["name"], made["type"], made["id"]) == ("bm25", FunctionType.BM25, 100)
    assert (made["input_field_ids"], made["output_field_ids"]) == ([101], [103])
    assert [f["name"] for f in described["fields"] if f.get("is_function_output")] == ["sparse"]
    assert described["fields"][1]["params"]["analyzer_params"] == '{"type":"english"}'
    url = f"http://{server.address}/v2/vectordb/collections/describe"
    data = requests.post(url, json={"collectionName": collection_name}, timeout=10).json()["data"]
    assert data["functions"] == [
        {
            "description": "",
            "id": 100,
            "inputFieldNames": ["text"],
            "name": "bm25",
            "outputFieldNames": ["sparse"],
            "params": [],
            "type": 1,
        }
    ]
    with pytest.raises(MilvusException, match="create duplicate collection with different parameters"):
        client.create_collection(collection_name, schema=new_schema(client, analyzer_params={"type": "standard"}))


def test_analyzer_parameters_may_change_until_a_function_or_a_match_needs_them(
    client: MilvusClient, collection_name: str
) -> None:
    client.create_collection(collection_name, schema=function(client, bm25(["text"], ["sparse"])))

    def alter(field: str, **params: Any) -> None:
        client.alter_collection_field(collection_name, field, params)

    with pytest.raises(MilvusException, match="after text match is enabled or a BM25/MinHash function depends on it"):
        alter("text", analyzer_params='{"type": "english"}')
    with pytest.raises(MilvusException, match="can not alter analyzer params for non-string field number"):
        alter("number", enable_analyzer="true")
    with pytest.raises(MilvusException, match="enable_analyzer should be a boolean, but got maybe"):
        alter("plain", enable_analyzer="maybe")
    with pytest.raises(MilvusException, match="klingon"):
        alter("plain", enable_analyzer="true", analyzer_params='{"type": "klingon"}')
    alter("plain", enable_analyzer="true", analyzer_params='{"type": "english"}')
    params = client.describe_collection(collection_name)["fields"][2]["params"]
    assert (params["enable_analyzer"], params["analyzer_params"]) == ("true", '{"type": "english"}')


def test_rest_creates_fills_and_searches(server: Server, collection_name: str) -> None:
    def post(path: str, body: dict[str, Any]) -> Any:
        url = f"http://{server.address}/v2/vectordb/{path}"
        answer = requests.post(url, json={"collectionName": collection_name, **body}, timeout=10).json()
        assert answer["code"] == 0, answer
        return answer["data"]

    text = {"max_length": 99, "enable_analyzer": True, "analyzer_params": {"type": "english"}}
    fields = [
        {"fieldName": "id", "dataType": "Int64", "isPrimary": True},
        {"fieldName": "text", "dataType": "VarChar", "elementTypeParams": text},
        {"fieldName": "sparse", "dataType": "SparseFloatVector"},
        {"fieldName": "dense", "dataType": "FloatVector", "elementTypeParams": {"dim": 2}},
    ]
    made = {"name": "f", "type": "BM25", "inputFieldNames": ["text"], "outputFieldNames": ["sparse"], "params": {}}
    indexes = [
        {"fieldName": "sparse", "indexName": "sparse", "metricType": "BM25"},
        {"fieldName": "dense", "indexName": "dense", "metricType": "L2"},
    ]
    post("collections/create", {"schema": {"fields": fields, "functions": [made]}, "indexParams": indexes})
    texts = ["a running fox", "foxes ran", "hens"]
    post("entities/insert", {"data": [{"id": n, "text": t, "dense": [n, n]} for n, t in enumerate(texts)]})
    found = post("entities/search", {"data": ["fox run"], "annsField": "sparse", "outputFields": ["text"]})
    assert [hit["id"] for hit in found] == [0, 1]
    both = [{"data": ["hen"], "annsField": "sparse", "limit": 3}, {"data": [[0, 0]], "annsField": "dense", "limit": 1}]
    found = post("entities/hybrid_search", {"search": both, "rerank": {"strategy": "rrf", "params": {"k": 60}}})
    assert {hit["id"] for hit in found} == {0, 2}
