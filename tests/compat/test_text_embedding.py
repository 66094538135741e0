"""Text embedding functions through the clients, with a small local model server."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from conftest import Server, ServerFactory
from model_server import ModelServer, model_server, vector_of
from pymilvus import AnnSearchRequest, DataType, Function, FunctionType, MilvusClient, MilvusException, RRFRanker
from rest_client import Rest

DIM = 4
TEXTS = ["aaaa", "abab", "bbbb", "cccc", "dddd", "abcd"]
ALLOWS_VECTORS = "collection.function.allowInsertNonBM25FunctionOutputs"


@pytest.fixture(scope="module")
def service() -> Iterator[ModelServer]:
    with model_server() as made:
        yield made


@pytest.fixture(autouse=True)
def _as_new(service: ModelServer) -> Iterator[None]:
    service.dim, service.requests = DIM, []
    yield
    service.failures, service.change = [], None


def _function(service: ModelServer, **params: Any) -> Function:
    given = {"provider": "TEI", "endpoint": service.url, **params}
    return Function("embed", FunctionType.TEXTEMBEDDING, ["text"], ["vector"], params=given)


def _create(
    client: MilvusClient,
    service: ModelServer,
    data_type: DataType = DataType.FLOAT_VECTOR,
    properties: dict[str, Any] | None = None,
    **params: Any,
) -> str:
    name = f"embedding_{uuid.uuid4().hex[:8]}"
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("text", DataType.VARCHAR, max_length=99)
    schema.add_field("year", DataType.INT32, nullable=True)
    schema.add_field("vector", data_type, dim=DIM)
    schema.add_function(_function(service, **params))
    indexes = client.prepare_index_params()
    indexes.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=indexes, properties=properties or {})
    return name


@pytest.fixture
def name(client: MilvusClient, service: ModelServer) -> Iterator[str]:
    """A collection of all texts."""
    made = _create(client, service, ingestion_prompt="", search_prompt="")
    client.insert(made, [{"id": i, "text": text, "year": 2000 + i} for i, text in enumerate(TEXTS)])
    yield made
    client.drop_collection(made)


def _stored(client: MilvusClient, name: str) -> dict[int, list[float]]:
    return {row["id"]: row["vector"] for row in client.query(name, "id >= 0", ["vector"])}


def _refused(code: int, text: str, call: Any, *given: Any, **named: Any) -> None:
    with pytest.raises(MilvusException) as refused:
        call(*given, **named)
    assert text in refused.value.message
    assert refused.value.code == code


def test_inserts_and_upserts_store_the_vectors_of_their_texts(client: MilvusClient, name: str) -> None:
    assert _stored(client, name) == {i: vector_of(text, DIM) for i, text in enumerate(TEXTS)}
    client.upsert(name, [{"id": 0, "text": "dd", "year": 1}, {"id": 9, "text": "cc", "year": 2}])
    stored = _stored(client, name)
    assert (stored[0], stored[9]) == (vector_of("dd", DIM), vector_of("cc", DIM))


def test_only_what_reaches_a_model_is_altered(client: MilvusClient, service: ModelServer, name: str) -> None:
    kept = {"ingestion_prompt": "", "search_prompt": ""}
    before = client.describe_collection(name)["functions"][0]
    alter = client.alter_collection_function
    _refused(1100, 'param "truncate" cannot be altered', alter, name, "embed", _function(service, truncate="1", **kept))
    _refused(1100, 'param "ingestion_prompt" cannot be altered', alter, name, "embed", _function(service))
    other = Function("embed", FunctionType.TEXTEMBEDDING, ["id"], ["vector"], params=_function(service).params)
    _refused(1100, "function input fields cannot be altered: function embed", alter, name, "embed", other)
    asked = len(service.requests)
    alter(name, "embed", _function(service, timeout_ms="7000", **kept))
    assert len(service.requests) == asked + 1, "the model is called once to check the function"
    altered = client.describe_collection(name)["functions"][0]
    assert altered == {**before, "params": {**before["params"], "timeout_ms": "7000"}}
    client.insert(name, [{"id": 50, "text": "dcba", "year": 1}])
    assert _stored(client, name)[50] == vector_of("dcba", DIM)


def test_texts_are_queries_before_and_after_a_flush(client: MilvusClient, service: ModelServer, name: str) -> None:
    for _ in range(2):
        found = client.search(name, ["aab", "c"], anns_field="vector", limit=2, output_fields=["text"])
        assert [hits[0]["entity"]["text"] for hits in found] == ["abab", "abcd"]
        by_vector = client.search(name, [list(map(float, vector_of("aab", DIM)))], anns_field="vector", limit=2)
        assert [(hit["id"], hit["distance"]) for hit in by_vector[0]] == [
            (hit["id"], hit["distance"]) for hit in found[0]
        ]
        client.flush(name)
    assert service.requests[-1][2]["inputs"] == ["aab", "c"]


def test_texts_are_queries_of_hybrid_searches_and_iterators(client: MilvusClient, name: str) -> None:
    parts = [AnnSearchRequest([text], "vector", {}, 3) for text in ("aaaa", "aaab")]
    assert client.hybrid_search(name, parts, RRFRanker(), limit=1)[0][0]["id"] == 0
    pages = client.search_iterator(name, ["bbbb"], batch_size=2, limit=6, anns_field="vector")
    found: list[int] = []
    while page := pages.next():
        found += [hit["id"] for hit in page]
    pages.close()
    assert found[0] == 2
    assert sorted(found) == list(range(len(TEXTS)))


def test_documents_and_queries_have_prompts_of_their_own(client: MilvusClient, service: ModelServer) -> None:
    name = _create(client, service, ingestion_prompt="a", search_prompt="dd")
    client.insert(name, [{"id": 1, "text": "b"}])
    assert _stored(client, name) == {1: vector_of("ab", DIM)}
    assert client.search(name, ["b"], anns_field="vector")[0][0]["distance"] == 5.0
    client.drop_collection(name)


def test_a_partial_upsert_embeds_only_texts_that_it_gives(
    client: MilvusClient, service: ModelServer, name: str
) -> None:
    service.requests = []
    client.upsert(name, [{"id": 1, "year": 7}], partial_update=True)
    assert service.requests == []
    client.upsert(name, [{"id": 1, "text": "cd"}, {"id": 20, "text": "d"}], partial_update=True)
    assert [body["inputs"] for _, _, body in service.requests] == [["cd", "d"]]
    stored = _stored(client, name)
    assert (stored[1], stored[20], stored[2]) == (vector_of("cd", DIM), vector_of("d", DIM), vector_of("bbbb", DIM))
    assert client.query(name, "id == 1", ["year"])[0]["year"] == 7
    _refused(1100, "has no corresponding fieldData", client.upsert, name, [{"id": 99, "year": 7}], partial_update=True)


def test_a_write_fails_whole_if_the_model_fails(client: MilvusClient, service: ModelServer, name: str) -> None:
    rows = [{"id": 0, "text": "new", "year": 1}, {"id": 50, "text": "newer", "year": 1}]
    for call in (client.insert, client.upsert):
        service.failures = [(400, b"no such model")]
        text = "function execution failed: [call service failed, errs:[400 Bad Request, no such model]"
        _refused(2400, text, call, name, rows)
    service.failures = [(400, b"no such model")]
    _refused(2400, "no such model", client.upsert, name, rows[:1], partial_update=True)
    service.change = lambda found: found[1:]
    _refused(2400, "does not match text:[2], embedding:[1]", client.insert, name, rows)
    assert client.query(name, "text like 'new%'") == []
    assert client.query(name, "", output_fields=["count(*)"])[0]["count(*)"] == len(TEXTS)
    service.failures = [(401, b"who are you")]
    text = "call service failed, errs:[401 Unauthorized, who are you]"
    _refused(2400, text, client.search, name, ["x"], anns_field="vector")


def test_a_slow_model_holds_up_no_other_write(client: MilvusClient, service: ModelServer, name: str) -> None:
    asked, goes_on = threading.Event(), threading.Event()

    def held(found: Any) -> Any:
        asked.set()
        goes_on.wait(20)
        return found

    service.change = held
    with ThreadPoolExecutor(2) as pool:
        inserts = pool.submit(client.insert, name, [{"id": 60, "text": "a"}])
        merges = pool.submit(client.upsert, name, [{"id": 3, "text": "b"}], partial_update=True)
        assert asked.wait(20)
        client.upsert(name, [{"id": 3, "year": 1}], partial_update=True)
        client.delete(name, ids=[0])
        assert not inserts.done()
        assert not merges.done()
        goes_on.set()
        inserts.result()
        merges.result()
    stored = _stored(client, name)
    assert (stored[60], stored[3]) == (vector_of("a", DIM), vector_of("b", DIM))
    assert client.query(name, "id == 3", ["year"])[0]["year"] == 1


def test_what_a_model_cannot_embed_is_refused(client: MilvusClient, service: ModelServer, name: str) -> None:
    row = {"id": 70, "year": 1}
    text = "function execution failed: [there is an empty string in the input data, TextEmbedding function does not"
    _refused(2400, text, client.insert, name, [{**row, "text": ""}])
    _refused(1100, "there is an empty string in the queries", client.search, name, ["a", ""], anns_field="vector")
    rows = [{"id": 100 + i, "text": "a", "year": 1} for i in range(161)]
    _refused(1100, "numRows [161] > function [embed]'s max batch [160]", client.insert, name, rows)
    _refused(1100, "nq [161] > function [embed]'s max batch [160]", client.search, name, ["a"] * 161, limit=1)
    service.requests = []
    client.insert(name, rows[:160])
    assert [len(body["inputs"]) for _, _, body in service.requests] == [32] * 5


def test_vectors_are_accepted_only_if_the_collection_allows_them(
    client: MilvusClient, server: Server, service: ModelServer, name: str
) -> None:
    """Over REST, since pymilvus itself refuses them."""
    rest = Rest(server.uri)
    body = {"collectionName": name, "data": [{"id": 80, "text": "a", "year": 1, "vector": [0.5] * DIM}]}
    part = {"collectionName": name, "data": [{"id": 80, "vector": [0.25] * DIM}], "partialUpdate": True}
    for path, sent in (("insert", body), ("upsert", body), ("upsert", part)):
        answer = rest.post(f"entities/{path}", sent)
        assert answer["code"] == 1100
        assert f"collection's property `{ALLOWS_VECTORS}` is not enable" in answer["message"]
    service.requests = []
    client.alter_collection_properties(name, {ALLOWS_VECTORS: "true"})
    rest.ok("entities/insert", body)
    assert _stored(client, name)[80] == [0.5] * DIM
    rest.ok("entities/upsert", part)
    assert _stored(client, name)[80] == [0.25] * DIM
    assert service.requests == []


@pytest.mark.parametrize(
    ("params", "code", "text"),
    [
        ({"endpoint": "nowhere"}, 1100, "endpoint: [nowhere] is not a valid http/https link"),
        ({"provider": "bedrock"}, 1100, "the text embedding provider bedrock is not supported"),
        ({"provider": "openai", "credential": "none"}, 1100, "none is not a apikey crediential"),
        ({"truncate": "maybe"}, 1100, "[truncate param's value: maybe] is invalid, only supports: [true/false]"),
    ],
)
def test_a_wrong_function_is_refused_at_creation(
    client: MilvusClient, service: ModelServer, params: dict[str, str], code: int, text: str
) -> None:
    _refused(code, text, _create, client, service, **params)


def test_the_model_is_tried_when_a_collection_is_created(client: MilvusClient, service: ModelServer) -> None:
    before = client.list_collections()
    service.dim = 8
    text = "check function [embed:TextEmbedding] failed: the required embedding dim is [4], but the embedding obtained"
    _refused(2400, text, _create, client, service)
    service.failures = [(404, b"gone")]
    _refused(2400, "check function [embed:TextEmbedding] failed: call service failed", _create, client, service)
    text = "embedding model output and field type mismatch, model output is FloatVector, field type is Int8Vector"
    _refused(1100, text, _create, client, service, DataType.INT8_VECTOR)
    assert client.list_collections() == before
    name = _create(client, service, properties={"disable_func_runtime_check": "true"})
    described = client.describe_collection(name)["functions"][0]
    assert described["params"] == {"provider": "TEI", "endpoint": service.url}
    _refused(2400, "the required embedding dim is [4]", client.insert, name, [{"id": 1, "text": "a"}])
    client.drop_collection(name)


def test_rest_creates_fills_and_searches(server: Server, service: ModelServer) -> None:
    rest, name = Rest(server.uri), f"embedding_{uuid.uuid4().hex[:8]}"
    fields = [
        {"fieldName": "id", "dataType": "Int64", "isPrimary": True},
        {"fieldName": "text", "dataType": "VarChar", "elementTypeParams": {"max_length": 99}},
        {"fieldName": "vector", "dataType": "FloatVector", "elementTypeParams": {"dim": DIM}},
    ]
    function = {
        "name": "embed",
        "type": "TextEmbedding",
        "inputFieldNames": ["text"],
        "outputFieldNames": ["vector"],
        "params": {"provider": "TEI", "endpoint": service.url},
    }
    indexes = [{"fieldName": "vector", "indexName": "vector", "indexType": "FLAT", "metricType": "L2"}]
    schema = {"fields": fields, "functions": [function]}
    rest.ok("collections/create", {"collectionName": name, "schema": schema, "indexParams": indexes})
    rest.wait_loaded(name)
    rows = [{"id": i, "text": text} for i, text in enumerate(TEXTS)]
    rest.ok("entities/insert", {"collectionName": name, "data": rows})
    asked = {"collectionName": name, "data": ["bbb"], "annsField": "vector", "limit": 1, "outputFields": ["vector"]}
    (hit,) = rest.ok("entities/search", asked)
    assert hit["id"] == 2
    np.testing.assert_array_equal(hit["vector"], vector_of("bbbb", DIM))
    rest.ok("collections/drop", {"collectionName": name})


def test_settings_name_the_provider_and_a_restart_calls_no_model(
    new_server: ServerFactory, service: ModelServer
) -> None:
    providers = {"openai": {"url": f"{service.url}/v1/embeddings", "credential": "mine"}, "cohere": {"enable": "false"}}
    server = new_server(
        env={
            "MILVINE_CREDENTIAL": json.dumps({"mine": {"apikey": "secret"}}),
            "MILVINE_FUNCTION_TEXTEMBEDDING_PROVIDERS": json.dumps(providers),
            "MILVINE_FUNCTION_BATCH_FACTOR": "1",
            "MILVINE_FUNCTION_MODEL_ALLOWEDHOSTS": "tei",
        }
    )
    client = server.client()
    _refused(1100, "function.model.allowedHosts does not name 127.0.0.1", _create, client, service)
    _refused(1100, "text embedding model provider [cohere] is disabled", _create, client, service, provider="cohere")
    name = _create(client, service, provider="openai", model_name="small")
    rows = [{"id": i, "text": TEXTS[i % len(TEXTS)]} for i in range(129)]
    _refused(1100, "numRows [129] > function [embed]'s max batch [128]", client.insert, name, rows)
    client.insert(name, rows[:3])
    client.flush(name)
    client.insert(name, rows[3:6])
    assert {headers["Authorization"] for _, headers, _ in service.requests} == {"Bearer secret"}
    described = client.describe_collection(name)
    client.close()
    server.kill()
    service.requests = []
    client = server.start().client()
    assert client.describe_collection(name) == described
    assert _stored(client, name) == {i: vector_of(text, DIM) for i, text in enumerate(TEXTS)}
    assert service.requests == []
    assert client.search(name, ["ccc"], anns_field="vector", limit=1)[0][0]["id"] == 3
    assert service.requests[0][0] == "/v1/embeddings"
    client.close()
