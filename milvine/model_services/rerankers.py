"""Rerankers: models that score texts by how well they fit a query. A line of a table for each provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from math import isfinite
from typing import Any

import numpy as np

from milvine.errors import ParameterInvalid, ParameterMissing, ServiceInternal
from milvine.model.properties import parse_bool
from milvine.model.records import record
from milvine.model_services.access import Access
from milvine.model_services.client import ModelClient, unreadable
from milvine.model_services.providers import (
    HUGGING_FACE_URL,
    batch_size,
    bearer,
    endpoint_url,
    hugging_face_url,
    in_batches,
    key_of,
    list_in,
    options_of,
    side,
    truth,
    whole_number,
)

Array = np.ndarray[Any, Any]


def _token_count(key: str, text: str) -> int:
    try:
        return whole_number(key, text)
    except ParameterInvalid:
        raise ParameterInvalid(f"Rerank params error, {key}: {text} is not a number") from None


def _flag(key: str, text: str) -> bool:
    flag = parse_bool(text)
    if flag is None:
        raise ParameterInvalid(f"Rerank params error, {key}: {text} is not bool type")
    return flag


def _of_model(model: str, query: str, texts: Sequence[str]) -> dict[str, Any]:
    return {"model": model, "query": query, "documents": texts}


def _of_ali(model: str, query: str, texts: Sequence[str]) -> dict[str, Any]:
    return {"model": model, "input": {"query": query, "documents": texts}}


def _of_tei(_: str, query: str, texts: Sequence[str]) -> dict[str, Any]:
    return {"query": query, "texts": texts}


def _of_vllm(_: str, query: str, texts: Sequence[str]) -> dict[str, Any]:
    return {"query": query, "documents": texts}


def _of_hugging_face(_: str, query: str, texts: Sequence[str]) -> dict[str, Any]:
    return {"inputs": {"source_sentence": query, "sentences": texts}}


@record
class _Provider:
    """`url` "": the caller names the endpoint. `variable`: of the environment, with the key, "" if none is needed.
    `options`: parameters that are sent, with their readers. `results`: where the list of results is in the answer;
    `score`: the key of a result's score, "" if the results are the scores in the order of the texts."""

    request: Callable[[str, str, Sequence[str]], dict[str, Any]]
    results: tuple[str, ...]
    url: str = ""
    variable: str = ""
    batch: int = 128
    options: Mapping[str, Callable[[str, str], Any]] = field(default_factory=dict)
    score: str = "relevance_score"


_PROVIDERS = {
    "tei": _Provider(_of_tei, (), batch=32, options={"truncate": _flag, "truncation_direction": side}, score="score"),
    "vllm": _Provider(_of_vllm, ("results",), batch=32, options={"truncate_prompt_tokens": _token_count}),
    "cohere": _Provider(
        _of_model,
        ("results",),
        url="https://api.cohere.com/v2/rerank",
        variable="MILVUS_COHERE_API_KEY",
        options={"max_tokens_per_doc": whole_number},
    ),
    "voyageai": _Provider(
        _of_model,
        ("data",),
        url="https://api.voyageai.com/v1/rerank",
        variable="MILVUS_VOYAGEAI_API_KEY",
        options={"truncation": truth},
    ),
    "siliconflow": _Provider(
        _of_model,
        ("results",),
        url="https://api.siliconflow.cn/v1/rerank",
        variable="MILVUS_SILICONFLOW_API_KEY",
        options={"max_chunks_per_doc": whole_number, "overlap_tokens": whole_number},
    ),
    "ali": _Provider(
        _of_ali,
        ("output", "results"),
        url="https://dashscope.aliyuncs.com/api/v1/services/rerank/text-rerank/text-rerank",
        variable="MILVUS_DASHSCOPE_API_KEY",
    ),
    "huggingface": _Provider(
        _of_hugging_face,
        (),
        url=HUGGING_FACE_URL,
        variable="MILVUS_HUGGINGFACE_API_KEY",
        batch=32,
        score="",
    ),
}


@record
class Reranker:
    """A model, ready to score."""

    client: ModelClient
    provider: _Provider
    url: str
    key: str
    model: str
    options: Mapping[str, Any]
    batch: int
    seconds: float

    def scores(self, query: str, texts: Sequence[str], deadline: float) -> Array:
        """float32 (n,). Raises the client's errors, and ServiceInternal for a wrong number of scores."""
        found = [self._batch(query, some, deadline) for some in in_batches(texts, self.batch)]
        return np.concatenate(found) if found else np.zeros(0, np.float32)

    def _batch(self, query: str, texts: Sequence[str], deadline: float) -> Array:
        body = self.provider.request(self.model, query, texts) | dict(self.options)
        answer = self.client.post(self.url, bearer(self.key), body, seconds=self.seconds, deadline=deadline)
        return self._scores_in(answer, len(texts))

    def _scores_in(self, answer: Any, count: int) -> Array:
        results = list_in(answer, self.provider.results)
        if len(results) != count:
            raise ServiceInternal(f"rerank_model: rerank service returned {len(results)} scores for {count} docs")
        scores = np.full(count, np.nan, np.float32)
        for place, result in enumerate(results):
            index, score = self._result(place, result)
            if not 0 <= index < count or not np.isnan(scores[index]):
                raise unreadable(f"bad index {index} of a result")
            scores[index] = score
        return scores

    def _result(self, place: int, result: Any) -> tuple[int, float]:
        index: Any = place
        score = result
        if self.provider.score:
            index = result.get("index") if isinstance(result, dict) else None
            score = result.get(self.provider.score) if isinstance(result, dict) else None
        is_number = isinstance(score, int | float) and not isinstance(score, bool)
        if not isinstance(index, int) or not is_number or not isfinite(score):
            raise unreadable("a result has no index or no score")
        return index, score


def reranker_of(client: ModelClient, access: Access, params: Mapping[str, str]) -> Reranker:
    """The model that the parameters (names in small letters) choose. Raises ParameterInvalid and ParameterMissing."""
    if "provider" not in params:
        raise ParameterInvalid("lost rerank params:provider ")
    name = params["provider"].lower()
    if not access.is_enabled(name):
        raise ParameterInvalid(f"rerank provider: [{name}] is disabled")
    if name == "zilliz":
        raise ParameterInvalid("zilliz client config error, lost endpoint config")
    provider = _PROVIDERS.get(name)
    if provider is None:
        raise ParameterInvalid(f"unknown rerank model provider:{params['provider']}")
    key = key_of(access, params, name, provider.variable)
    batch = batch_size(params, provider.batch)
    options = options_of(params, provider.options)
    model = params.get("model_name", "")
    if provider.url and not model:
        raise ParameterMissing(f"{name} rerank model name is required")
    return Reranker(
        client=client,
        provider=provider,
        url=_url(client, access, name, params),
        key=key,
        model=model,
        options=options,
        batch=batch,
        seconds=access.timeout(params),
    )


def _url(client: ModelClient, access: Access, name: str, params: Mapping[str, str]) -> str:
    """The endpoint that the caller names for providers without a URL, else that of the settings or the provider's."""
    provider = _PROVIDERS[name]
    if not provider.url:
        if name == "vllm" and not params.get("endpoint"):
            raise ParameterInvalid("rerank function lost params endpoint")
        return endpoint_url(client, params, "/rerank")
    base = access.of(name).get("url") or provider.url
    if name != "huggingface":
        return base
    return hugging_face_url(base, params, kind="rerank", task="sentence-similarity")
