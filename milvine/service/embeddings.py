"""Calls the models of text embedding functions: for rows that are written, for queries, and once for a new schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.config import Settings
from milvine.errors import FunctionFailed, MilvineError, ParameterInvalid
from milvine.model.columns import Column
from milvine.model.functions import FunctionSchema, FunctionType
from milvine.model.properties import UNCHECKED_MODELS_PROPERTY, parse_bool
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model_services.access import Access
from milvine.model_services.client import ModelClient
from milvine.model_services.embedders import Embedder, embedder_of
from milvine.service.context import Engine, RequestContext

Array = np.ndarray[Any, Any]


class Models(Protocol):
    """What calls of embedding models need: an engine, or what an import has of one."""

    @property
    def settings(self) -> Settings: ...
    @property
    def model_client(self) -> ModelClient: ...
    @property
    def embedders(self) -> Access: ...


def skips_model_check(properties: Mapping[str, str]) -> bool:
    """Whether a collection is created without a call of its models."""
    text = properties.get(UNCHECKED_MODELS_PROPERTY, "false").lower()
    skips = parse_bool(text)
    if skips is None:
        raise ParameterInvalid(
            f'failed to parse {UNCHECKED_MODELS_PROPERTY} param: strconv.ParseBool: parsing "{text}": invalid syntax'
        )
    return skips


def check_models(engine: Engine, context: RequestContext, schema: CollectionSchema, only: str = "") -> None:
    """Calls each model of a schema once, or that of one function, by name. Raises what the call raises, or
    ParameterInvalid, unless its vectors fit their field."""
    for function in _functions(schema):
        if only not in ("", function.name):
            continue
        embedder = _embedder(engine, schema, function)
        try:
            if not embedder.makes_field_type:
                raise ParameterInvalid(
                    "embedding model output and field type mismatch, model output is FloatVector, "
                    f"field type is {embedder.field.data_type.milvus_name}"
                )
            embedder.vectors(["check"], is_query=False, deadline=context.deadline)
        except MilvineError as error:
            raise error.prefixed(f"check function [{function.name}:TextEmbedding] failed") from error


def most_texts(engine: Models, schema: CollectionSchema) -> int | None:
    """The most rows of one call of `with_embeddings`; None if there are no functions that call models."""
    batches = [_embedder(engine, schema, function).batch for function in _functions(schema)]
    return min(batches) * engine.settings.embedding_batches if batches else None


def with_embeddings(
    engine: Models, context: RequestContext, schema: CollectionSchema, columns: Mapping[int, Column]
) -> dict[int, Column]:
    """The columns, and the vectors of the texts among them whose vectors are not given. Takes as long as the models
    take, so no lock may be held. Raises FunctionFailed if a model fails."""
    made = dict(columns)
    wanted: list[tuple[FunctionSchema, Embedder, Any]] = []
    for function in _functions(schema):
        source = schema.by_name[function.inputs[0]].field_id
        if source in columns and schema.by_name[function.outputs[0]].field_id not in columns:
            wanted.append((function, _embedder(engine, schema, function), columns[source].values))
    for function, embedder, texts in wanted:
        most = embedder.batch * engine.settings.embedding_batches
        if len(texts) > most:
            raise ParameterInvalid(f"numRows [{len(texts)}] > function [{function.name}]'s max batch [{most}]")
    for _, embedder, texts in wanted:
        try:
            vectors = _vectors(embedder, texts, "input data", is_query=False, deadline=context.deadline)
        except MilvineError as error:
            raise FunctionFailed(f"function execution failed: [{error.message}]") from error
        made[embedder.field.field_id] = Column(embedder.field.data_type, vectors)
    return made


def embedded_queries(
    engine: Engine, context: RequestContext, schema: CollectionSchema, field: FieldSchema, texts: pa.StringArray
) -> Array:
    """float32 or int8 (n, dim): the vectors of queries for the output of a function."""
    function = schema.function_of_output[field.field_id]
    embedder = _embedder(engine, schema, function)
    most = embedder.batch * engine.settings.embedding_batches
    if len(texts) > most:
        raise ParameterInvalid(f"nq [{len(texts)}] > function [{function.name}]'s max batch [{most}]")
    return _vectors(embedder, texts, "queries", is_query=True, deadline=context.deadline)


def _functions(schema: CollectionSchema) -> list[FunctionSchema]:
    return [f for f in schema.functions if f.function_type is FunctionType.TEXT_EMBEDDING]


def _embedder(engine: Models, schema: CollectionSchema, function: FunctionSchema) -> Embedder:
    params = {name.lower(): value for name, value in function.params.items()}
    return embedder_of(engine.model_client, engine.embedders, params, schema.by_name[function.outputs[0]])


def _vectors(embedder: Embedder, texts: pa.StringArray, where: str, *, is_query: bool, deadline: float) -> Array:
    if pc.any(pc.equal(texts, "")).as_py():
        raise ParameterInvalid(
            f"there is an empty string in the {where}, TextEmbedding function does not support empty text"
        )
    return embedder.vectors(texts.to_pylist(), is_query=is_query, deadline=deadline)
