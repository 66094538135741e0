"""The protocols of rerankers, and what the client does with slow, failing and hostile services."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from model_server import ModelServer, model_server, score_of

from milvine.errors import FunctionFailed, MilvineError, ParameterInvalid, ServiceInternal, ServiceUnavailable
from milvine.model_services import client as client_module
from milvine.model_services.access import Access
from milvine.model_services.client import ModelClient
from milvine.model_services.rerankers import Reranker, reranker_of

TEXTS = [f"{letters} {number}" for number, letters in enumerate(["vector", "search", "tree", "scholar", ""])]
KEYED = ("cohere", "voyageai", "siliconflow", "ali", "huggingface")


@pytest.fixture
def service() -> Iterator[ModelServer]:
    with model_server() as made:
        yield made


def _reranker(service: ModelServer, provider: str, hosts: str = "*", **params: str) -> Reranker:
    paths = {"voyageai": "/v1/rerank-voyage", "huggingface": ""}
    url = service.url + paths.get(provider, "/v2/rerank")
    access = Access(
        {"mine": {"apikey": "secret"}}, {provider: {"url": url, "credential": "Mine"}} if provider in KEYED else {}, 5.0
    )
    given = {"provider": provider, "endpoint": service.url, "model_name": "a/b", **params}
    return reranker_of(ModelClient(hosts, 4), access, given)


def _scores(reranker: Reranker, seconds: float = 20.0) -> Any:
    return reranker.scores("vector search", TEXTS, time.monotonic() + seconds)


@pytest.mark.parametrize("provider", ["tei", "vllm", *KEYED])
def test_every_provider_scores_texts_in_batches(service: ModelServer, provider: str) -> None:
    found = _scores(_reranker(service, provider, max_client_batch_size="2"))
    np.testing.assert_allclose(found, [score_of("vector search", text) for text in TEXTS], rtol=1e-6)
    assert len(service.requests) == 3
    path, headers, body = service.requests[0]
    if provider in KEYED:
        assert headers["Authorization"] == "Bearer secret"
    else:
        assert path == "/rerank"
        assert "Authorization" not in headers
    if provider == "huggingface":
        assert path == "/hf-inference/models/a/b/pipeline/sentence-similarity"
    elif provider in KEYED:
        assert body["model"] == "a/b"


@pytest.mark.parametrize(
    ("provider", "params"),
    [
        ("tei", {"truncate": True, "truncation_direction": "Left"}),
        ("vllm", {"truncate_prompt_tokens": 7}),
        ("cohere", {"max_tokens_per_doc": 9}),
        ("voyageai", {"truncation": False}),
        ("siliconflow", {"max_chunks_per_doc": 3, "overlap_tokens": 1}),
    ],
)
def test_parameters_of_the_model_are_sent(service: ModelServer, provider: str, params: dict[str, Any]) -> None:
    _scores(_reranker(service, provider, **{name: str(value) for name, value in params.items()}))
    body = service.requests[0][2]
    assert {name: body[name] for name in params} == params


def test_a_key_comes_from_the_function_then_the_settings_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    variable = "MILVUS_COHERE_API_KEY"
    tables = {"a": {"apikey": "of a"}, "b": {"apikey": "of b"}}
    access = Access(tables, {"cohere": {"credential": "b"}}, 1.0)
    monkeypatch.setenv(variable, "of the environment")
    assert access.key({"credential": "A"}, "cohere", variable) == "of a"
    assert access.key({}, "cohere", variable) == "of b"
    assert access.key({}, "voyageai", variable) == "of the environment"
    monkeypatch.delenv(variable)
    monkeypatch.setenv("MILVUSAI_COHERE_API_KEY", "of old")
    assert access.key({}, "voyageai", variable) == "of old"
    with pytest.raises(ParameterInvalid, match=r"c is not a apikey crediential, can not find key: c\.apikey"):
        access.key({"credential": "c"}, "cohere", variable)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"provider": "best"}, "unknown rerank model provider:best"),
        ({"provider": "zilliz"}, "lost endpoint config"),
        ({"provider": "cohere"}, "configure the MILVUS_COHERE_API_KEY environment variable in the Milvus service"),
        ({"provider": "cohere", "credential": "k"}, "cohere rerank model name is required"),
        ({"max_client_batch_size": "x"}, "[max_client_batch_size param's value: x] is not a valid number"),
        ({"max_client_batch_size": "0"}, "[max_client_batch_size param's value: 0] must be greater than 0"),
        ({"truncate": "maybe"}, "Rerank params error, truncate: maybe is not bool type"),
        ({"truncation_direction": "Up"}, "[truncation_direction param's value: Up] is not invalid"),
        ({"endpoint": "localhost:8080"}, "endpoint: [localhost:8080] is not a valid http/https link"),
        ({"endpoint": "http://u:p@localhost"}, "is not a valid http/https link"),
        ({"endpoint": "http://localhost:port"}, "is not a valid http/https link"),
        ({"endpoint": ""}, "endpoint: [] is not a valid http/https link"),
        ({"provider": "vllm", "endpoint": ""}, "rerank function lost params endpoint"),
        ({"provider": "vllm", "truncate_prompt_tokens": "x"}, "truncate_prompt_tokens: x is not a number"),
        ({"provider": "huggingface", "credential": "k", "model_name": "../x"}, "contains invalid path segment"),
        ({"provider": "huggingface", "credential": "k", "model_name": "x", "hf_provider": "y"}, "only supports hf-in"),
        ({"provider": "off"}, "rerank provider: [off] is disabled"),
    ],
)
def test_bad_parameters_are_refused_in_milvus_words(
    monkeypatch: pytest.MonkeyPatch, params: dict[str, str], text: str
) -> None:
    monkeypatch.delenv("MILVUS_COHERE_API_KEY", raising=False)
    access = Access({"k": {"apikey": "x"}}, {"off": {"enable": "False"}}, 1.0)
    given = {"provider": "TEI", "endpoint": "http://localhost:1", **params}
    with pytest.raises(MilvineError) as refused:
        reranker_of(ModelClient("*", 1), access, given)
    assert text in refused.value.message


@pytest.mark.parametrize(
    ("hosts", "endpoint", "is_allowed"),
    [
        ("", "http://127.0.0.1:80", False),
        ("tei", "http://tei:80/x", True),
        ("TEI", "https://tei", True),
        ("tei:80", "http://tei:81", False),
        ("tei:80, other", "http://other:81", True),
        ("tei", "http://tei.example", False),
        ("169.254.0.1", "http://169.254.169.254/latest/meta-data", False),
    ],
)
def test_only_allowed_hosts_may_be_endpoints(hosts: str, endpoint: str, is_allowed: bool) -> None:
    client = ModelClient(hosts, 1)
    if is_allowed:
        assert client.endpoint(endpoint).hostname
    else:
        with pytest.raises(ParameterInvalid, match=r"is not allowed: function\.model\.allowedHosts does not name"):
            client.endpoint(endpoint)


def test_a_failure_that_may_pass_is_tried_again(service: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_FIRST_PAUSE_SECONDS", 0.01)
    service.failures = [(429, b"slowly"), (503, b"busy")]
    assert len(_scores(_reranker(service, "tei"))) == len(TEXTS)
    service.failures = [(500, b"broken")] * 3
    with pytest.raises(ServiceUnavailable, match=r"call service failed, errs:\[500 .*broken\]"):
        _scores(_reranker(service, "tei"))
    assert len(service.requests) == 6


def test_a_wrong_request_is_not_tried_again(service: ModelServer) -> None:
    service.failures = [(401, b"who are you")]
    with pytest.raises(FunctionFailed, match=r"call service failed, errs:\[401 Unauthorized, who are you\]"):
        _scores(_reranker(service, "tei"))
    assert len(service.requests) == 1


def test_redirects_are_not_followed(service: ModelServer) -> None:
    service.failures = [(302, b"over there")]
    with pytest.raises(FunctionFailed, match=r"errs:\[302 Found"):
        _scores(_reranker(service, "tei"))


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda found: found[1:], ServiceInternal, "rerank service returned 4 scores for 5 docs"),
        (lambda found: [*found, found[0]], ServiceInternal, "rerank service returned 6 scores for 5 docs"),
        (lambda found: [*found[1:], found[1]], FunctionFailed, "bad index"),
        (lambda found: [{**found[0], "index": 9}, *found[1:]], FunctionFailed, "bad index 9"),
        (lambda found: [{**found[0], "score": "x"}, *found[1:]], FunctionFailed, "no index or no score"),
        (lambda found: [None, *found[1:]], FunctionFailed, "no index or no score"),
        (lambda found: {}, FunctionFailed, "no list of results"),
    ],
)
def test_wrong_answers_are_refused(service: ModelServer, change: Any, error: type[Exception], text: str) -> None:
    service.change = change
    with pytest.raises(error, match=text):
        _scores(_reranker(service, "tei"))


def test_an_answer_that_is_not_json_is_refused(service: ModelServer) -> None:
    service.failures = [(200, b"<html>")]
    with pytest.raises(FunctionFailed, match="unmarshal response failed"):
        _scores(_reranker(service, "tei"))


def test_a_slow_service_is_given_up_in_time(service: ModelServer) -> None:
    service.pause_seconds = 5.0
    started = time.monotonic()
    with pytest.raises(ServiceUnavailable, match="call service failed: service unavailable"):
        _scores(_reranker(service, "tei", timeout_ms="200"))
    with pytest.raises(ServiceUnavailable):
        _scores(_reranker(service, "tei"), seconds=0.2)
    assert time.monotonic() - started < 3


def test_a_service_that_is_not_there_is_unavailable() -> None:
    access = Access({}, {}, 0.5)
    reranker = reranker_of(ModelClient("*", 1), access, {"provider": "tei", "endpoint": "http://127.0.0.1:9"})
    with pytest.raises(ServiceUnavailable, match="call service failed"):
        _scores(reranker)


def test_calls_beyond_the_limit_fail_at_once(service: ModelServer) -> None:
    reranker = _reranker(service, "tei")
    for _ in range(4):
        assert reranker.client._places.acquire(blocking=False)
    with pytest.raises(ServiceUnavailable, match="too many calls"):
        _scores(reranker)


def test_a_large_answer_is_cut_off(service: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_MAX_ANSWER_BYTES", 100)
    with pytest.raises(FunctionFailed, match="larger than 100 bytes"):
        _scores(_reranker(service, "tei"))
