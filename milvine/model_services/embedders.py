"""Embedders: models that turn texts into vectors. A line of a table for each provider."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import numpy as np

from milvine.errors import FunctionFailed, ParameterInvalid, ParameterMissing
from milvine.model.known_keys import unsupported
from milvine.model.records import record
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType
from milvine.model_services.access import Access
from milvine.model_services.client import ModelClient, unreadable
from milvine.model_services.providers import (
    HUGGING_FACE_URL,
    as_whole_number,
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
)

Array = np.ndarray[Any, Any]
Params = Mapping[str, str]
_LEAST_INT8, _MOST_INT8 = -128, 127
_AZURE_VERSION = "2024-06-01"
_AZURE_RESOURCE = "MILVUS_AZURE_OPENAI_RESOURCE_NAME"
_LINE_OF_V3 = "text-embedding-v3"


@record
class _Asked:
    """One request. `dim`: 0 unless the function names it. `is_query`: the texts are queries, not documents. `options`:
    parameters that are sent as they are."""

    texts: Sequence[str]
    is_query: bool
    model: str
    dim: int
    is_int8: bool
    params: Params
    options: Mapping[str, Any]


def _if_given(name: str, value: object) -> dict[str, Any]:
    return {name: value} if value else {}


def _openai(asked: _Asked) -> dict[str, Any]:
    body = {"model": asked.model, "input": asked.texts, "encoding_format": "float"}
    return {**body, **_if_given("dimensions", asked.dim), **asked.options}


def _dashscope(asked: _Asked) -> dict[str, Any]:
    kind = "query" if asked.is_query else "document"
    parameters = {"text_type": kind, "output_type": "dense", **_if_given("dimension", asked.dim)}
    return {"model": asked.model, "input": {"texts": asked.texts}, "parameters": parameters}


def _voyageai(asked: _Asked) -> dict[str, Any]:
    return {
        "model": asked.model,
        "input": asked.texts,
        "input_type": "query" if asked.is_query else "document",
        "output_dtype": "int8" if asked.is_int8 else "float",
        **_if_given("output_dimension", asked.dim),
        **asked.options,
    }


def _cohere(asked: _Asked) -> dict[str, Any]:
    kind = "search_query" if asked.is_query else "search_document"
    takes_kind = not asked.model.endswith("v2.0")
    return {
        "model": asked.model,
        "texts": asked.texts,
        "embedding_types": ["int8" if asked.is_int8 else "float"],
        "truncate": "END",
        **({"input_type": kind} if takes_kind else {}),
        **_if_given("output_dimension", asked.dim),
        **asked.options,
    }


def _tei(asked: _Asked) -> dict[str, Any]:
    prompt = asked.params.get("search_prompt" if asked.is_query else "ingestion_prompt", "")
    return {"inputs": [prompt + text for text in asked.texts], **asked.options}


def _hugging_face(asked: _Asked) -> dict[str, Any]:
    return {"inputs": asked.texts, **asked.options}


def _yc(asked: _Asked) -> dict[str, Any]:
    texts = {"text": asked.texts[0]} if len(asked.texts) == 1 else {"texts": asked.texts}
    return {"modelUri": asked.model, **texts}


def _gemini_model(name: str) -> str:
    return name.removeprefix("models/")


def _gemini(asked: _Asked) -> dict[str, Any]:
    task = asked.params.get("task") or ("RETRIEVAL_QUERY" if asked.is_query else "RETRIEVAL_DOCUMENT")
    shared = {
        "model": f"models/{_gemini_model(asked.model)}",
        "taskType": task,
        **_if_given("outputDimensionality", asked.dim),
    }
    return {"requests": [{**shared, "content": {"parts": [{"text": text}]}} for text in asked.texts]}


def _numbered(*steps: str, vector: str = "embedding", index: str = "index") -> Callable[[Any, bool], list[Any]]:
    """Reads a list of objects, each with a vector and, unless `index` is "", the number of its text."""

    def read(answer: Any, _: bool) -> list[Any]:
        found = list_in(answer, steps)
        if not all(isinstance(one, dict) for one in found):
            raise unreadable("a result has no vector")
        places = [one.get(index, place) if index else place for place, one in enumerate(found)]
        vectors = [one.get(vector) for one in found]
        if places == list(range(len(found))):
            return vectors
        if not all(type(place) is int for place in places) or sorted(places) != list(range(len(found))):
            raise unreadable("the results are not numbered by their texts")
        return [vectors[position] for position in np.argsort(places).tolist()]

    return read


def _by_type(answer: Any, is_int8: bool) -> list[Any]:
    return list_in(answer, ("embeddings", "int8" if is_int8 else "float"))


def _plain(answer: Any, _: bool) -> list[Any]:
    return list_in(answer, ())


def _one_or_more(answer: Any, _: bool) -> list[Any]:
    if isinstance(answer, dict) and answer.get("embeddings"):
        return list_in(answer, ("embeddings",))
    return [list_in(answer, ("embedding",))]


@record
class _Place:
    """What a provider's URL is made of. `settings`: of the provider."""

    client: ModelClient
    settings: Params
    params: Params

    @property
    def model(self) -> str:
        return self.params.get("model_name", "")


def _at(url: str) -> Callable[[_Place], str]:
    return lambda place: place.settings.get("url") or url


def _azure_url(place: _Place) -> str:
    url = place.settings.get("url", "")
    if not url:
        resource = place.settings.get("resource_name") or os.environ.get(_AZURE_RESOURCE, "")
        if not resource:
            raise ParameterInvalid(f"must configure the {_AZURE_RESOURCE} environment variable in the Milvus service")
        url = f"https://{resource}.openai.azure.com"
    base = urlsplit(url)
    path = f"/openai/deployments/{quote(place.model, safe='')}/embeddings"
    return urlunsplit((base.scheme, base.netloc, path, urlencode({"api-version": _AZURE_VERSION}), ""))


def _tei_url(place: _Place) -> str:
    return endpoint_url(place.client, place.params, "/embed")


def _hugging_face_url(place: _Place) -> str:
    base = place.settings.get("url") or HUGGING_FACE_URL
    return hugging_face_url(base, place.params, kind="embedding", task="feature-extraction")


def _gemini_url(place: _Place) -> str:
    model = quote(_gemini_model(place.model), safe="")
    return place.settings.get("url") or (
        f"https://generativelanguage.googleapis.com/v1beta/models/{model}:batchEmbedContents"
    )


def _cut(key: str, text: str) -> str:
    if text not in ("NONE", "START", "END"):
        raise ParameterInvalid(f"illegal parameters, {key} only supports [NONE, START, END]")
    return text


def _as_sent(_: str, text: str) -> str:
    return text


def _at_most(count: int) -> Callable[[Params], int]:
    return lambda _: count


def _chosen(default: int) -> Callable[[Params], int]:
    return lambda params: batch_size(params, default)


def _dashscope_batch(params: Params) -> int:
    return 6 if params.get("model_name") == _LINE_OF_V3 else 25


@record
class _Provider:
    """`vectors` takes an answer and whether its numbers are INT8. `variable`: of the environment, with the key, "" if
    none is needed. `options`: parameters that are sent, with their readers. `no_model`: the refusal if no model is
    named, "" if the service decides. `takes_dim`: whether `dim` is a parameter."""

    request: Callable[[_Asked], dict[str, Any]]
    vectors: Callable[[Any, bool], list[Any]]
    url: Callable[[_Place], str]
    batch: Callable[[Params], int]
    variable: str = ""
    header: Callable[[str], dict[str, str]] = bearer
    options: Mapping[str, Callable[[str, str], Any]] = field(default_factory=dict)
    no_model: str = ""
    takes_dim: bool = True
    makes_int8: bool = False


_PROVIDERS = {
    "openai": _Provider(
        _openai,
        _numbered("data"),
        _at("https://api.openai.com/v1/embeddings"),
        _at_most(128),
        variable="MILVUS_OPENAI_API_KEY",
        options={"user": _as_sent},
    ),
    "azure_openai": _Provider(
        _openai,
        _numbered("data"),
        _azure_url,
        _at_most(128),
        variable="MILVUS_AZURE_OPENAI_API_KEY",
        header=lambda key: {"api-key": key},
        options={"user": _as_sent},
    ),
    "dashscope": _Provider(
        _dashscope,
        _numbered("output", "embeddings", index="text_index"),
        _at("https://dashscope.aliyuncs.com/api/v1/services/embeddings/text-embedding/text-embedding"),
        _dashscope_batch,
        variable="MILVUS_DASHSCOPE_API_KEY",
    ),
    "voyageai": _Provider(
        _voyageai,
        _numbered("data"),
        _at("https://api.voyageai.com/v1/embeddings"),
        _at_most(128),
        variable="MILVUS_VOYAGEAI_API_KEY",
        options={"truncation": truth},
        makes_int8=True,
    ),
    "cohere": _Provider(
        _cohere,
        _by_type,
        _at("https://api.cohere.com/v2/embed"),
        _at_most(96),
        variable="MILVUS_COHERE_API_KEY",
        options={"truncate": _cut},
        makes_int8=True,
    ),
    "siliconflow": _Provider(
        _openai,
        _numbered("data"),
        _at("https://api.siliconflow.cn/v1/embeddings"),
        _at_most(32),
        variable="MILVUS_SILICONFLOW_API_KEY",
    ),
    "tei": _Provider(
        _tei,
        _plain,
        _tei_url,
        _chosen(32),
        options={"truncate": truth, "truncation_direction": side},
        takes_dim=False,
    ),
    "yc": _Provider(
        _yc,
        _one_or_more,
        _at("https://llm.api.cloud.yandex.net/foundationModels/v1/textEmbedding"),
        _at_most(128),
        variable="MILVUS_YC_API_KEY",
        header=lambda key: {"Authorization": f"Api-Key {key}"},
        no_model="yc embedding model name is required",
    ),
    "gemini": _Provider(
        _gemini,
        _numbered("embeddings", vector="values", index=""),
        _gemini_url,
        _at_most(32),
        variable="MILVUS_GEMINI_API_KEY",
        header=lambda key: {"x-goog-api-key": key},
        no_model="model_name is required for Gemini embedding provider",
    ),
    "huggingface": _Provider(
        _hugging_face,
        _plain,
        _hugging_face_url,
        _chosen(128),
        variable="MILVUS_HUGGINGFACE_API_KEY",
        options={
            "normalize": truth,
            "truncate": truth,
            "truncation_direction": _as_sent,
            "prompt_name": _as_sent,
        },
        no_model="huggingface embedding model name is required",
        takes_dim=False,
    ),
}
_UNSERVED = ("bedrock", "vertexai", "zilliz")
"""Their requests are signed, or they exist in one cloud only."""
_UNSERVED_PARAMS = ("url", "integration_id")
_MILVUS_ORDER = (
    "openai azure_openai dashscope bedrock vertexai voyageai cohere siliconflow tei yc zilliz gemini huggingface"
)


@record
class Embedder:
    """A model, ready to make the vectors of a field. `batch`: texts of one call."""

    client: ModelClient
    provider: _Provider
    url: str
    key: str
    params: Params
    dim: int
    options: Mapping[str, Any]
    field: FieldSchema
    batch: int
    seconds: float

    @property
    def makes_field_type(self) -> bool:
        return self.field.data_type is DataType.FLOAT_VECTOR or self.provider.makes_int8

    def vectors(self, texts: Sequence[str], *, is_query: bool, deadline: float) -> Array:
        """float32 or int8 (n, dim). Raises the client's errors, and FunctionFailed for an answer that does not fit."""
        return np.concatenate([self._batch(some, is_query, deadline) for some in in_batches(texts, self.batch)])

    def _batch(self, texts: Sequence[str], is_query: bool, deadline: float) -> Array:
        is_int8 = self.field.data_type is DataType.INT8_VECTOR
        asked = _Asked(
            texts=texts,
            is_query=is_query,
            model=self.params.get("model_name", ""),
            dim=self.dim,
            is_int8=is_int8,
            params=self.params,
            options=self.options,
        )
        headers = self.provider.header(self.key)
        body = self.provider.request(asked)
        answer = self.client.post(self.url, headers, body, seconds=self.seconds, deadline=deadline)
        vectors = self.provider.vectors(answer, is_int8)
        if len(vectors) != len(texts):
            raise FunctionFailed(
                "get embedding failed, the number of texts and embeddings does not match "
                f"text:[{len(texts)}], embedding:[{len(vectors)}]"
            )
        for vector in vectors:
            length = len(vector) if isinstance(vector, list) else 0
            if length != self.field.dim:
                raise FunctionFailed(
                    f"the required embedding dim is [{self.field.dim}], "
                    f"but the embedding obtained from the model is [{length}]"
                )
        return _as_int8(vectors) if is_int8 else _as_float32(vectors)


def _numbers(vectors: list[Any], kinds: str) -> Array:
    try:
        made = np.asarray(vectors)
    except ValueError:
        made = np.zeros(0)
    if made.ndim != 2 or made.dtype.kind not in kinds:
        raise unreadable("a vector has elements that are no numbers of its type")
    return made


def _as_float32(vectors: list[Any]) -> Array:
    with np.errstate(over="ignore"):
        made = _numbers(vectors, "fiu").astype(np.float32)
    if not np.isfinite(made).all():
        raise unreadable("a vector has elements that do not fit FLOAT")
    return made


def _as_int8(vectors: list[Any]) -> Array:
    made = _numbers(vectors, "iu")
    if made.min() < _LEAST_INT8 or made.max() > _MOST_INT8:
        raise unreadable("a vector has elements that do not fit INT8")
    return made.astype(np.int8)


def embedder_of(client: ModelClient, access: Access, params: Params, output: FieldSchema) -> Embedder:
    """The model that the parameters (names in small letters) choose for a field. Raises ParameterInvalid and
    ParameterMissing."""
    if "provider" not in params:
        raise ParameterInvalid("the text embedding service provider parameter:[provider] was not found")
    name = params["provider"].lower()
    if not access.is_enabled(name):
        raise ParameterInvalid(f"text embedding model provider [{name}] is disabled")
    if name in _UNSERVED:
        raise ParameterInvalid(unsupported(f"the text embedding provider {name}"))
    provider = _PROVIDERS.get(name)
    if provider is None:
        known = ", ".join(_MILVUS_ORDER.split())
        raise ParameterInvalid(f"unsupported text embedding service provider: [{name}] , list of supported [{known}]")
    for unserved in _UNSERVED_PARAMS:
        if params.get(unserved):
            raise ParameterInvalid(unsupported(f"{unserved} of a text embedding function"))
    dim = _dim(params.get("dim", "0"), output) if provider.takes_dim else 0
    if provider.no_model and not params.get("model_name"):
        raise ParameterMissing(provider.no_model)
    options = options_of(params, provider.options)
    key = key_of(access, params, name, provider.variable)
    return Embedder(
        client=client,
        provider=provider,
        url=provider.url(_Place(client, access.of(name), params)),
        key=key,
        params=params,
        dim=dim,
        options=options,
        field=output,
        batch=provider.batch(params),
        seconds=access.timeout(params),
    )


def _dim(text: str, output: FieldSchema) -> int:
    dim = as_whole_number(text)
    if dim is None:
        raise ParameterInvalid(f"dimension [{text}] provided in Function params is not a valid int")
    if dim not in (0, output.dim):
        raise ParameterInvalid(
            f"function output field:[{output.name}]'s dimension [{output.dim}] does not match the dimension [{dim}] "
            "provided in Function params"
        )
    return dim
