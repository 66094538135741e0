"""LanceDB: a directory or a URI.

A table has no primary key. The column `id` is taken if its values are texts or integers, all different and none NULL;
otherwise the number of the row is the key.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.migration.columns import batch_of
from milvine.migration.shape import Batch, Field, Index, Shape
from milvine.migration.sources.options import SourceOptions
from milvine.migration.sources.tables import READERS, TEXT, array_field, text_field
from milvine.model.types import DataType

_KEY = "id"
_NUMBER_KEY = "row_number"
_METRICS = {"l2": "L2", "cosine": "COSINE", "dot": "IP"}
_SCALARS = {
    pa.bool_(): DataType.BOOL,
    pa.int8(): DataType.INT8,
    pa.uint8(): DataType.INT16,
    pa.int16(): DataType.INT16,
    pa.uint16(): DataType.INT32,
    pa.int32(): DataType.INT32,
    pa.uint32(): DataType.INT64,
    pa.int64(): DataType.INT64,
    pa.uint64(): DataType.INT64,
    pa.float16(): DataType.FLOAT,
    pa.float32(): DataType.FLOAT,
    pa.float64(): DataType.DOUBLE,
    pa.string(): DataType.VARCHAR,
    pa.large_string(): DataType.VARCHAR,
}
_VECTORS = {
    pa.float32(): DataType.FLOAT_VECTOR,
    pa.float64(): DataType.FLOAT_VECTOR,
    pa.float16(): DataType.FLOAT16_VECTOR,
    pa.int8(): DataType.INT8_VECTOR,
}


class LanceSource:
    def __init__(self, place: str, options: SourceOptions) -> None:
        self._db = lancedb.connect(place, **({"api_key": options.token} if options.token else {}))

    def close(self) -> None:
        """LanceDB's connections have no end that matters."""

    def collections(self) -> list[str]:
        return sorted(self._db.table_names(limit=1_000_000))

    def shape(self, name: str) -> Shape:
        table = self._db.open_table(name)
        notes: list[str] = []
        has_key = _has_key(table)
        fields = [] if has_key else [Field(_NUMBER_KEY, DataType.INT64, is_primary=True, origin="number of the row")]
        for column in table.schema:
            if has_key and column.name == _KEY:
                fields.insert(0, _key(column))
            else:
                fields += _fields(column, notes)
        metrics = _metrics(table)
        indexes = []
        for field in fields:
            if field.data_type.is_vector:
                metric = metrics.get(field.name)
                if metric is None:
                    notes.append(f"{field.name} has no index: HNSW with L2, LanceDB's default, is made")
                indexes.append(Index(field.name, "HNSW", metric or "L2", {"M": 16, "efConstruction": 200}))
        return Shape(name, fields, indexes, rows=table.count_rows(), notes=notes, details=table)

    def batches(self, shape: Shape, place: Any, rows: int) -> Iterator[Batch]:
        """In the order of the table, whose version is that of the first batch."""
        table = shape.details
        version, offset = place or (table.version, 0)
        table.checkout(version)
        while True:
            columns = [field.name for field in shape.fields if field.name != _NUMBER_KEY]
            found = table.search().select(columns).offset(offset).limit(rows).to_arrow()
            if not found.num_rows:
                return
            values = {field.name: _values(found, field, offset) for field in shape.fields}
            offset += found.num_rows
            yield Batch(batch_of(shape, values), [version, offset])


def _has_key(table: Any) -> bool:
    schema = table.schema
    if _KEY not in schema.names or _SCALARS.get(schema.field(_KEY).type) not in (
        DataType.VARCHAR,
        DataType.INT16,
        DataType.INT32,
        DataType.INT64,
    ):
        return False
    keys = table.search().select([_KEY]).limit(max(table.count_rows(), 1)).to_arrow()[_KEY]
    return bool(keys.null_count == 0 and pc.count_distinct(keys).as_py() == len(keys))


def _key(column: pa.Field) -> Field:
    if _SCALARS[column.type] is DataType.VARCHAR:
        return Field(_KEY, DataType.VARCHAR, dict(TEXT), is_primary=True, origin=str(column.type))
    return Field(_KEY, DataType.INT64, is_primary=True, origin=str(column.type))


def _fields(column: pa.Field, notes: list[str]) -> list[Field]:
    kind, origin = column.type, str(column.type)
    if pa.types.is_fixed_size_list(kind) and kind.value_type in _VECTORS:
        vector = _VECTORS[kind.value_type]
        return [Field(column.name, vector, {"dim": kind.list_size}, nullable=True, origin=origin)]
    if kind in _SCALARS:
        scalar = _SCALARS[kind]
        params = dict(TEXT) if scalar is DataType.VARCHAR else {}
        return [Field(column.name, scalar, params, nullable=True, origin=origin)]
    if pa.types.is_list(kind) and kind.value_type in _SCALARS:
        return [array_field(column.name, _SCALARS[kind.value_type], origin)]
    if pa.types.is_nested(kind):
        return [Field(column.name, DataType.JSON, nullable=True, origin=origin)]
    if pa.types.is_temporal(kind) or pa.types.is_decimal(kind) or pa.types.is_dictionary(kind):
        return [text_field(column.name, origin)]
    notes.append(f"{column.name} is left out: {origin} has no place here")
    return []


def _metrics(table: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for index in table.list_indices():
        stats = table.index_stats(index.name)
        metric = _METRICS.get(str(getattr(stats, "distance_type", "") or "").lower())
        if metric:
            found |= dict.fromkeys(index.columns, metric)
    return found


def _values(found: pa.Table, field: Field, offset: int) -> list[Any]:
    if field.name == _NUMBER_KEY:
        return list(range(offset, offset + found.num_rows))
    values: list[Any] = found[field.name].to_pylist()
    if field.data_type is DataType.FLOAT16_VECTOR:
        return [None if value is None else np.asarray(value, np.float16).tobytes() for value in values]
    read = READERS.get(field.data_type)
    return read(values) if read else values
