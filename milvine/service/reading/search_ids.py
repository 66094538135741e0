"""Searches by the keys of rows instead of by vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.errors import CollectionNotLoaded, FieldNotFound, ParameterInvalid
from milvine.model.columns import Column
from milvine.model.functions import FunctionType
from milvine.model.requests import SearchRequest
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import DataType
from milvine.model.vectors import kind_of
from milvine.querynode.cluster import Target
from milvine.segment.keys import has_duplicates
from milvine.segment.output_size import MAX_OUTPUT_BYTES, too_large
from milvine.segment.plans import QueryPlan
from milvine.service.context import Engine, RequestContext, find_by_any_name
from milvine.service.reading import names
from milvine.service.reading.limits import check_nq
from milvine.service.reading.outputs import no_rows, requested
from milvine.service.reading.running import run_query
from milvine.service.reading.snapshot import read_ts

Array = np.ndarray[Any, Any]


def with_vectors(engine: Engine, context: RequestContext, request: SearchRequest) -> tuple[SearchRequest, Array, int]:
    """The search with the vectors of its ids, whether each id has one, and the timestamp of that read. Vectors that
    a BM25 function made are replaced by their texts.

    As in Milvus, the filter does not apply to the ids, and errors in the ids come before all others.
    """
    ids = request.ids
    assert ids is not None
    collection = find_by_any_name(engine, context, request.name)
    field = _checked_field(collection.schema, request.anns_field, ids)
    check_nq(len(ids))
    partition_ids = names.partition_ids(collection, request.partition_names)
    asked_field = field
    if field.made_by is FunctionType.BM25:
        field = collection.schema.by_name[collection.schema.function_of_output[field.field_id].inputs[0]]
    requested(engine, collection, (field.name,))  # refuses a field that is not loaded
    if collection.load is None:
        raise CollectionNotLoaded(collection.collection_id).prefixed("failed to query")
    _check_size(field, len(ids))
    ts = read_ts(engine, collection, request.read_ts)
    primary = collection.schema.primary_field
    plan = QueryPlan(
        read_ts=ts,
        predicate=None,
        keys=ids,
        partition_ids=partition_ids,
        limit=None,
        output_field_ids=(field.field_id,),
        primary_field_id=primary.field_id,
    )
    target = Target(collection.collection_id, partition_ids, context.deadline)
    found = run_query(engine, engine.reads.query, target, plan, request.read_ts)
    rows = no_rows((primary, field)) if found is None else found.rows
    keys, vectors = rows.columns[primary.field_id].values, rows.columns[field.field_id]
    queries, has_vector = _vectors_of(ids, keys, vectors)
    asked = replace(request, queries=queries, query_type=field.data_type, anns_field=asked_field.name, ids=None)
    return asked, has_vector, ts


def _checked_field(schema: CollectionSchema, name: str, ids: Any) -> FieldSchema:
    """The vector field of the search. Raises InputError with Milvus's texts."""
    if has_duplicates(ids):
        raise ParameterInvalid("duplicate IDs found in search request")
    field = _searched_field(schema, name)
    primary = schema.primary_field
    is_int = primary.data_type is DataType.INT64
    if isinstance(ids, np.ndarray) != is_int:
        kind, wanted = ("int64", "int64 IDs") if is_int else ("varchar", "string IDs")
        raise ParameterInvalid(
            f"primary key is {kind}, but IDs type mismatch", expected=wanted, actual="got other type"
        )
    return field


def _searched_field(schema: CollectionSchema, name: str) -> FieldSchema:
    if not name:
        if len(schema.vector_fields) > 1:
            raise ParameterInvalid(
                "multiple vector fields exist, please specify anns_field in search_params",
                expected="valid anns_field in search_params",
                actual="missing",
            )
        return schema.vector_fields[0]
    field = schema.by_name.get(name)
    if field is None:
        raise FieldNotFound(name, "vector field not found in schema")
    if not field.data_type.is_vector:
        raise ParameterInvalid(f"field ({name}) to search is not of vector data type")
    return field


def _check_size(field: FieldSchema, count: int) -> None:
    """Bounds the vectors read into memory, since a few bytes of keys can name many."""
    if field.data_type.is_vector and count * kind_of(field.data_type).row_bytes(field.dim or 0) > MAX_OUTPUT_BYTES:
        raise too_large("query")


def _vectors_of(ids: Any, keys: Any, found: Column) -> tuple[Any, Array]:
    """The vectors in the order of `ids`, without NULLs; and for each id whether it has one.

    `found`: the vectors of the rows with the distinct `keys`. Raises ParameterInvalid if a key is missing.
    """
    asked = pa.array(ids)
    places = pc.index_in(asked, value_set=pa.array(keys))
    if places.null_count:
        missing = " ".join(map(str, asked.filter(places.is_null()).to_pylist()))
        raise ParameterInvalid(f"some of the provided primary key IDs do not exist: missing IDs = [{missing}]")
    column = found.take(places.to_numpy())
    if column.validity is None:
        return column.values, np.ones(len(ids), np.bool_)
    return column.take(np.flatnonzero(column.validity)).values, column.validity
