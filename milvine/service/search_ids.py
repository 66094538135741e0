"""Searches by the keys of rows instead of by vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.errors import FieldNotFound, ParameterInvalid
from milvine.model.columns import Column
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import DataType
from milvine.model.vectors import kind_of
from milvine.segment.keys import has_duplicates
from milvine.segment.output_size import MAX_OUTPUT_BYTES, too_large

Array = np.ndarray[Any, Any]


def checked_field(schema: CollectionSchema, name: str, ids: Any) -> FieldSchema:
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


def check_size(field: FieldSchema, count: int) -> None:
    """Bounds the vectors read into memory, since a few bytes of keys can name many."""
    if count * kind_of(field.data_type).row_bytes(field.dim or 0) > MAX_OUTPUT_BYTES:
        raise too_large("query")


def vectors_of(ids: Any, keys: Any, found: Column) -> tuple[Any, Array]:
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
    return column.values[column.validity], column.validity
