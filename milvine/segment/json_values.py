"""Values in JSON documents, as Arrow arrays: of one type, or as JSON texts whatever they are."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.model import json_text
from milvine.model.columns import ARROW_TYPES, NUMPY_DTYPES, Column
from milvine.model.json_paths import JsonKind, JsonPath, PathColumn, values_at
from milvine.model.types import DataType

_ESCAPED = r'["\\\x00-\x1f]'
_NEEDS_ESCAPES = re.compile(_ESCAPED)


def typed(found: PathColumn, cast: DataType) -> Any:
    """The values of one type; others count as NULL."""
    if cast is DataType.VARCHAR:
        return pa.nulls(len(found), pa.string()) if found.strings is None else found.strings
    if found.integers is None:
        return pa.nulls(len(found), ARROW_TYPES[cast])
    kind = JsonKind.BOOL if cast is DataType.BOOL else JsonKind.INT
    values = found.integers != 0 if cast is DataType.BOOL else found.integers.astype(NUMPY_DTYPES[cast])
    return pa.array(values, mask=found.kinds != kind)


def texts_of(column: Column) -> Any:
    """The whole documents, without blanks; NULL where there is none."""
    documents = values_at(column.values, ())
    is_there = [True] * len(documents) if column.validity is None else column.validity.tolist()
    texts = [json_text.dumps(one).decode() if is_one else None for one, is_one in zip(documents, is_there, strict=True)]
    return pa.array(texts, pa.string())


def texts_at(found: PathColumn, column: Column, path: JsonPath) -> Any:
    """The values at a path as JSON, so that 1 and "1" differ; NULL where there is none. `found`: of that path."""
    parts = []
    if found.integers is not None:
        is_bool, is_int = found.kinds == JsonKind.BOOL, found.kinds == JsonKind.INT
        parts.append(pa.array(found.integers != 0, mask=~is_bool).cast(pa.string()))
        parts.append(pa.array(found.integers, mask=~is_int).cast(pa.string()))
    if found.doubles is not None:
        parts.append(pa.array(found.doubles, mask=found.kinds != JsonKind.DOUBLE).cast(pa.string()))
    if found.strings is not None:
        parts.append(_quoted(found.strings))
    others = np.isin(found.kinds, (JsonKind.NULL, JsonKind.EMPTY, JsonKind.OTHER))
    if others.any():
        rows = np.flatnonzero(others)
        texts = [json_text.dumps(value).decode() for value in values_at(column.values.take(pa.array(rows)), path)]
        places = np.zeros(len(found), np.int64)
        places[rows] = np.arange(len(rows))
        parts.append(pa.array(texts, pa.string()).take(pa.array(places, mask=~others)))
    return pc.coalesce(*parts) if parts else pa.nulls(len(found), pa.string())


def _quoted(strings: Any) -> Any:
    quoted = pc.binary_join_element_wise('"', strings, '"', "")
    if not pc.any(pc.match_substring_regex(strings, _ESCAPED)).as_py():
        return quoted
    texts = strings.to_pylist()
    escaped = [json_text.dumps(text).decode() if text and _NEEDS_ESCAPES.search(text) else None for text in texts]
    return pc.coalesce(pa.array(escaped, pa.string()), quoted)
