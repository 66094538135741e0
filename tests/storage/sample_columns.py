"""Columns of every type, made by hypothesis, and how to compare them."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from hypothesis import strategies as st

from milvine.model.columns import NUMPY_DTYPES, Column, json_column
from milvine.model.json_paths import dense
from milvine.model.sparse_vectors import SparseVectors, decode_json, encode, spread
from milvine.model.types import DataType
from milvine.model.vectors import kind_of

_integers = st.integers(-(2**63), 2**63 - 1)
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | _integers | st.floats(allow_nan=False, allow_infinity=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)
json_documents = st.dictionaries(_texts, json_values, max_size=4) | json_values


def _sparse(n: int) -> st.SearchStrategy[Any]:
    number = st.floats(0, 1e6, width=32)
    rows = st.lists(st.dictionaries(st.integers(0, 2**32 - 2), number, max_size=4), min_size=n, max_size=n)
    return rows.map(lambda given: decode_json({str(i): v for i, v in row.items()} for row in given))


def _values(data_type: DataType, n: int) -> st.SearchStrategy[Any]:
    if data_type is DataType.SPARSE_FLOAT_VECTOR:
        return _sparse(n)
    if data_type.is_vector:
        shape = kind_of(data_type).fillers(n, 8)
        drawn = st.binary(min_size=shape.nbytes, max_size=shape.nbytes)
        return drawn.map(lambda b: np.frombuffer(b, shape.dtype).reshape(shape.shape))
    if data_type is DataType.VARCHAR:
        return st.lists(_texts, min_size=n, max_size=n).map(lambda v: pa.array(v, pa.string()))
    if data_type is DataType.ARRAY:
        lists = st.lists(st.lists(_texts, max_size=3), min_size=n, max_size=n)
        return lists.map(lambda v: pa.array(v, pa.list_(pa.string())))
    if data_type is DataType.JSON:
        documents = st.lists(json_documents, min_size=n, max_size=n)
        return documents.map(lambda v: pa.array([orjson.dumps(d) for d in v], pa.binary()))
    dtype = NUMPY_DTYPES[data_type]
    if data_type is DataType.BOOL:
        one: st.SearchStrategy[Any] = st.booleans()
    elif np.issubdtype(dtype, np.integer):
        one = st.integers(np.iinfo(dtype).min, np.iinfo(dtype).max)
    else:
        one = st.floats(width=32 if data_type is DataType.FLOAT else 64)
    return st.lists(one, min_size=n, max_size=n).map(lambda v: np.array(v, dtype))


@st.composite
def columns(draw: st.DrawFn, data_type: DataType, row_count: int, nullable: bool = True) -> Column:
    """A column as inserts make it: with or without validity, JSON shredded."""
    values = draw(_values(data_type, row_count))
    validity = None
    if nullable and draw(st.booleans()):
        validity = np.array(draw(st.lists(st.booleans(), min_size=row_count, max_size=row_count)), np.bool_)
        if data_type is DataType.ARRAY:
            rows = zip(values.to_pylist(), validity, strict=True)
            values = pa.array([row if there else [] for row, there in rows], values.type)
        elif data_type is DataType.SPARSE_FLOAT_VECTOR:
            values = spread(values[validity], validity)
    return json_column(values, validity) if data_type is DataType.JSON else Column(data_type, values, validity)


def valid(column: Column) -> list[bool]:
    return [True] * len(column) if column.validity is None else [bool(v) for v in column.validity]


def rows_of(column: Column) -> list[Any]:
    """The column as Python values, bit by bit for floats; None where it is NULL."""
    values = column.values
    if isinstance(values, SparseVectors):
        rows: list[Any] = encode(values)
    else:
        rows = [v.tobytes() for v in values] if isinstance(values, np.ndarray) else values.to_pylist()
    return [row if there else None for row, there in zip(rows, valid(column), strict=True)]


def paths_of(column: Column) -> dict[Any, list[Any]]:
    """Shredded paths as Python values."""
    assert column.paths is not None
    found: dict[Any, list[Any]] = {}
    for name, kept in column.paths.columns.items():
        path = dense(kept)
        parts = [
            [None] * len(path) if part is None else part.tolist()
            for part in (path.integers, path.doubles, path.strings)
        ]
        found[name] = list(zip(path.kinds.tolist(), *parts, strict=True))
    return found
