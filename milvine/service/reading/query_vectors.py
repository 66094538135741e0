"""The queries of a search in the form in which they are compared: vectors, or texts for the output of a function."""

from __future__ import annotations

from typing import Any

from milvine.analysis.outputs import query_signatures, query_terms
from milvine.errors import ParameterInvalid
from milvine.index.term_queries import TermQueries
from milvine.model.collections import Collection
from milvine.model.functions import FunctionType
from milvine.model.requests import SearchRequest
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType, MetricType
from milvine.model.vectors import kind_of
from milvine.model.vectors.base import query_type_name
from milvine.service.context import Engine, RequestContext
from milvine.service.embeddings import embedded_queries


def checked_queries(
    engine: Engine, context: RequestContext, collection: Collection, field: FieldSchema, request: SearchRequest
) -> Any:
    """The queries of a request for an indexed field; a model embeds texts. Raises ParameterInvalid with Milvus's texts,
    and what calls of models raise."""
    if field.made_by is FunctionType.BM25:
        return _term_queries(collection, field, request)
    if field.made_by is FunctionType.MIN_HASH:
        return _signatures(collection, field, request)
    if field.made_by is FunctionType.TEXT_EMBEDDING and request.query_type == DataType.VARCHAR:
        vectors = embedded_queries(engine, context, collection.schema, field, request.queries)
        return kind_of(field.data_type).checked_queries(field, int(field.data_type), vectors)
    return kind_of(field.data_type).checked_queries(field, request.query_type, request.queries)


def _term_queries(collection: Collection, field: FieldSchema, request: SearchRequest) -> TermQueries:
    _check_texts("BM25", request)
    params = collection.index_by_field[field.field_id].build_params
    terms = query_terms(collection.schema, field, request.queries, str(request.params.get("analyzer_name") or ""))
    return TermQueries(terms, params["bm25_k1"], params["bm25_b"])


def _signatures(collection: Collection, field: FieldSchema, request: SearchRequest) -> Any:
    if request.metric_type.upper() not in ("", MetricType.MHJACCARD):
        raise ParameterInvalid(
            "must use MHJACCARD metric type when searching against MinHash Function output field",
            expected=MetricType.MHJACCARD,
            actual=request.metric_type,
        ).prefixed("failed to search")
    _check_texts("MinHash", request)
    return query_signatures(collection.schema, field, request.queries)


def _check_texts(function: str, request: SearchRequest) -> None:
    if request.query_type != DataType.VARCHAR:
        sent = query_type_name(request.query_type)
        raise ParameterInvalid(
            f"please provide varchar/text for {function} Function based search, got {sent}"
        ).prefixed("failed to search")
