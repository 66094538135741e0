"""The protocols of embedding models, and which answers are refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from model_server import ModelServer, model_server, vector_of

from milvine.errors import FunctionFailed, MilvineError
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType
from milvine.model_services.access import Access
from milvine.model_services.client import ModelClient
from milvine.model_services.embedders import Embedder, embedder_of

DIM = 4
TEXTS = ["aab", "bcd", "d", "zz", "abcd"]
KEYED = ("openai", "azure_openai", "dashscope", "voyageai", "cohere", "siliconflow", "yc", "gemini", "huggingface")


@pytest.fixture
def service() -> Iterator[ModelServer]:
    with model_server() as made:
        yield made


def _field(data_type: DataType = DataType.FLOAT_VECTOR) -> FieldSchema:
    return FieldSchema(101, "vector", data_type, dim=DIM)


def _embedder(
    service: ModelServer, provider: str, data_type: DataType = DataType.FLOAT_VECTOR, **params: str
) -> Embedder:
    settings = {provider: {"url": service.url, "credential": "mine"}} if provider in KEYED else {}
    access = Access({"mine": {"apikey": "secret"}}, settings, 5.0)
    given = {"provider": provider, "endpoint": service.url, "model_name": "a/b", **params}
    return embedder_of(ModelClient("*", 4), access, given, _field(data_type))


def _vectors(embedder: Embedder, texts: list[str] | None = None, *, is_query: bool = False) -> Any:
    return embedder.vectors(texts or TEXTS, is_query=is_query, deadline=time.monotonic() + 20)


@pytest.mark.parametrize("provider", ["tei", *KEYED])
def test_every_provider_embeds_texts_in_their_order(service: ModelServer, provider: str) -> None:
    embedder = _embedder(service, provider)
    found = _vectors(embedder)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [vector_of(text, DIM) for text in TEXTS])
    np.testing.assert_array_equal(_vectors(embedder, ["abc"]), [vector_of("abc", DIM)])


@pytest.mark.parametrize(("provider", "calls"), [("tei", [32, 32, 6]), ("siliconflow", [32, 32, 6]), ("cohere", [70])])
def test_many_texts_are_sent_in_batches(service: ModelServer, provider: str, calls: list[int]) -> None:
    texts = ["a" * (number % 9 + 1) for number in range(70)]
    found = _vectors(_embedder(service, provider), texts)
    np.testing.assert_array_equal(found[:, 0], [len(text) for text in texts])
    sent = [body.get("inputs") or body.get("input") or body["texts"] for _, _, body in service.requests]
    assert [len(one) for one in sent] == calls


@pytest.mark.parametrize(
    ("provider", "path", "header"),
    [
        ("openai", "/", ("Authorization", "Bearer secret")),
        ("azure_openai", "/openai/deployments/a%2Fb/embeddings?api-version=2024-06-01", ("api-key", "secret")),
        ("gemini", "/", ("x-goog-api-key", "secret")),
        ("yc", "/", ("Authorization", "Api-Key secret")),
        ("huggingface", "/hf-inference/models/a/b/pipeline/feature-extraction", ("Authorization", "Bearer secret")),
        ("tei", "/embed", None),
    ],
)
def test_keys_and_models_are_where_the_provider_expects_them(
    service: ModelServer, provider: str, path: str, header: tuple[str, str] | None
) -> None:
    _vectors(_embedder(service, provider))
    asked_path, headers, _ = service.requests[0]
    assert asked_path == path
    if header is None:
        assert "Authorization" not in headers
    else:
        assert headers[header[0]] == header[1]


@pytest.mark.parametrize(
    ("provider", "params", "document", "query"),
    [
        (
            "openai",
            {"user": "me", "dim": "4"},
            {"user": "me", "dimensions": 4, "encoding_format": "float"},
            {"user": "me", "dimensions": 4},
        ),
        (
            "dashscope",
            {"dim": "4"},
            {"parameters": {"text_type": "document", "output_type": "dense", "dimension": 4}},
            {"parameters": {"text_type": "query", "output_type": "dense", "dimension": 4}},
        ),
        (
            "voyageai",
            {"truncation": "true", "dim": "4"},
            {"input_type": "document", "truncation": True, "output_dimension": 4, "output_dtype": "float"},
            {"input_type": "query"},
        ),
        (
            "cohere",
            {"truncate": "START"},
            {"input_type": "search_document", "truncate": "START", "embedding_types": ["float"]},
            {"input_type": "search_query"},
        ),
        (
            "tei",
            {"ingestion_prompt": "passage: ", "search_prompt": "query: ", "truncate": "true"},
            {"inputs": ["passage: a"], "truncate": True},
            {"inputs": ["query: a"]},
        ),
        ("huggingface", {"normalize": "false", "prompt_name": "p"}, {"normalize": False, "prompt_name": "p"}, {}),
    ],
)
def test_documents_and_queries_are_sent_with_their_parameters(
    service: ModelServer, provider: str, params: dict[str, str], document: dict[str, Any], query: dict[str, Any]
) -> None:
    embedder = _embedder(service, provider, DataType.FLOAT_VECTOR, **params)
    for is_query, expected in ((False, document), (True, query)):
        _vectors(embedder, ["a"], is_query=is_query)
        body = service.requests[-1][2]
        assert {name: body[name] for name in expected} == expected


def test_gemini_gets_the_task_of_the_texts(service: ModelServer) -> None:
    _vectors(_embedder(service, "gemini", dim="4"), ["a"], is_query=True)
    _vectors(_embedder(service, "gemini", task="CLUSTERING"), ["a"])
    first, second = (body["requests"][0] for _, _, body in service.requests)
    assert (first["taskType"], first["outputDimensionality"], first["model"]) == ("RETRIEVAL_QUERY", 4, "models/a/b")
    assert second["taskType"] == "CLUSTERING"


def test_old_models_of_cohere_get_no_input_type(service: ModelServer) -> None:
    _vectors(_embedder(service, "cohere", model_name="embed-english-v2.0"))
    assert "input_type" not in service.requests[0][2]


@pytest.mark.parametrize(("provider", "key"), [("cohere", "embedding_types"), ("voyageai", "output_dtype")])
def test_int8_vectors_are_asked_for(service: ModelServer, provider: str, key: str) -> None:
    found = _vectors(_embedder(service, provider, DataType.INT8_VECTOR))
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, [vector_of(text, DIM) for text in TEXTS])
    assert "int8" in service.requests[0][2][key]


@pytest.mark.parametrize(
    ("provider", "change", "text"),
    [
        ("tei", lambda found: found[1:], "the number of texts and embeddings does not match text:[5], embedding:[4]"),
        ("tei", lambda found: [[1.0], *found[1:]], "the required embedding dim is [4], but the embedding obtained"),
        ("tei", lambda found: [None, *found[1:]], "obtained from the model is [0]"),
        ("tei", lambda found: [["x"] * 4, *found[1:]], "no numbers of its type"),
        ("tei", lambda found: [[None] * 4, *found[1:]], "no numbers of its type"),
        ("tei", lambda found: [[[1]] * 4, *found[1:]], "no numbers of its type"),
        ("tei", lambda found: [[[1]] * 4 for _ in found], "no numbers of its type"),
        ("tei", lambda found: [[1e300] * 4, *found[1:]], "do not fit FLOAT"),
        ("tei", lambda found: {}, "the answer has no list of results"),
        ("cohere", lambda found: [[0.5] * 4, *found[1:]], "no numbers of its type"),
        ("cohere", lambda found: [[128] * 4, *found[1:]], "do not fit INT8"),
    ],
)
def test_wrong_answers_are_refused(service: ModelServer, provider: str, change: Any, text: str) -> None:
    service.change = change
    data_type = DataType.INT8_VECTOR if provider == "cohere" else DataType.FLOAT_VECTOR
    with pytest.raises(FunctionFailed) as refused:
        _vectors(_embedder(service, provider, data_type))
    assert text in refused.value.message


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b'{"data": [{"embedding": [1, 2, 3, 4], "index": 0}, {"embedding": [1, 2, 3, 4], "index": 0}]}', "numbered"),
        (b'{"data": [1, 2]}', "a result has no vector"),
        (b'{"data": [{}, {}]}', "obtained from the model is [0]"),
        (b'{"error": "x"}', "the answer has no list of results"),
    ],
)
def test_wrong_lists_of_objects_are_refused(service: ModelServer, answer: bytes, text: str) -> None:
    service.failures = [(200, answer)]
    with pytest.raises(FunctionFailed) as refused:
        _vectors(_embedder(service, "openai"), ["a", "b"])
    assert text in refused.value.message


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"provider": "best"}, "unsupported text embedding service provider: [best] , list of supported [openai, azur"),
        ({"provider": "Bedrock"}, "the text embedding provider bedrock is not supported by this version of Milvine"),
        ({"provider": "vertexai"}, "the text embedding provider vertexai is not supported"),
        ({"provider": "zilliz"}, "the text embedding provider zilliz is not supported"),
        ({"provider": "off"}, "text embedding model provider [off] is disabled"),
        ({"provider": "openai"}, "configure the MILVUS_OPENAI_API_KEY environment variable in the Milvus service"),
        ({"provider": "azure_openai", "credential": "k"}, "must configure the MILVUS_AZURE_OPENAI_RESOURCE_NAME"),
        ({"provider": "openai", "credential": "none"}, "none is not a apikey crediential"),
        ({"provider": "openai", "credential": "k", "dim": "x"}, "dimension [x] provided in Function params"),
        ({"provider": "openai", "credential": "k", "dim": "9" * 5000}, "is not a valid int"),
        (
            {"provider": "openai", "credential": "k", "dim": "8"},
            "function output field:[vector]'s dimension [4] does not match the dimension [8] provided in Function",
        ),
        ({"provider": "openai", "credential": "k", "url": "http://x"}, "url of a text embedding function is not supp"),
        ({"provider": "yc", "credential": "k"}, "yc embedding model name is required"),
        ({"provider": "gemini", "credential": "k"}, "model_name is required for Gemini embedding provider"),
        ({"provider": "huggingface", "credential": "k"}, "huggingface embedding model name is required"),
        ({"provider": "huggingface", "credential": "k", "model_name": "a//b"}, "contains invalid path segment"),
        ({"provider": "cohere", "credential": "k", "truncate": "no"}, "truncate only supports [NONE, START, END]"),
        ({"provider": "voyageai", "credential": "k", "truncation": "no"}, "is invalid, only supports: [true/false]"),
        ({"endpoint": "tei"}, "endpoint: [tei] is not a valid http/https link"),
        ({"max_client_batch_size": "0"}, "[max_client_batch_size param's value: 0] must be greater than 0"),
        ({"max_client_batch_size": "9" * 5000}, "is not a valid number"),
        ({"truncation_direction": "Up"}, "only supports [Left/Right]"),
    ],
)
def test_bad_parameters_are_refused_in_milvus_words(
    monkeypatch: pytest.MonkeyPatch, params: dict[str, str], text: str
) -> None:
    for variable in ("MILVUS_OPENAI_API_KEY", "MILVUSAI_OPENAI_API_KEY", "MILVUS_AZURE_OPENAI_RESOURCE_NAME"):
        monkeypatch.delenv(variable, raising=False)
    access = Access({"k": {"apikey": "x"}}, {"off": {"enable": "false"}}, 1.0)
    given = {"provider": "TEI", "endpoint": "http://localhost:1", **params}
    with pytest.raises(MilvineError) as refused:
        embedder_of(ModelClient("*", 1), access, given, _field())
    assert text in refused.value.message


def test_only_allowed_hosts_may_be_endpoints(service: ModelServer) -> None:
    with pytest.raises(MilvineError, match=r"is not allowed: function\.model\.allowedHosts does not name 127\.0\.0\.1"):
        embedder_of(ModelClient("tei", 1), Access({}, {}, 1.0), {"provider": "tei", "endpoint": service.url}, _field())
