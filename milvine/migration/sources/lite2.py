"""A file of Milvus Lite 2, read without Milvus Lite.

It is a database of SQLite. `collection_meta` has a message CollectionSchema for each collection and a message
FieldIndexMeta for each index. Each collection is a table, whose rows hold a message InsertRecord of one row.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from milvine.grpc_api.proto import common_pb2, schema_pb2
from milvine.migration.columns import batch_of
from milvine.migration.shape import DYNAMIC_COLUMN, Batch, Field, Function, Index, MigrationError, Shape
from milvine.migration.sources.options import SourceOptions
from milvine.migration.sources.wire import members
from milvine.model.types import DataType

_INDEX_FIELD_ID, _INDEX_NAME, _INDEX_PARAMS = 1, 3, 5  # of FieldIndexMeta
_FIRST_FIELD_ID = 100  # those below are Milvus's own: RowID, Timestamp
_RECORD_FIELDS = 1  # of InsertRecord
_PARAMS = {"dim": int, "max_length": int, "max_capacity": int}
_TEXT_PARAMS = ("enable_analyzer", "enable_match")
_SPARSE = np.dtype([("place", "<u4"), ("value", "<f4")])


class Lite2Source:
    def __init__(self, place: str, options: SourceOptions) -> None:
        if not Path(place).is_file():
            raise MigrationError(f"{place} is not a file")
        self._file = place
        self._db = sqlite3.connect(f"{Path(place).absolute().as_uri()}?mode=ro", uri=True)

    def close(self) -> None:
        self._db.close()

    def collections(self) -> list[str]:
        found = self._rows("SELECT collection_name FROM collection_meta WHERE meta_type = 'schema' ORDER BY id")
        return [name for (name,) in found]

    def shape(self, name: str) -> Shape:
        metas = list(
            self._rows(
                "SELECT meta_type, CAST(blob_field AS BLOB) FROM collection_meta WHERE collection_name = ? ORDER BY id",
                name,
            )
        )
        schema = schema_pb2.CollectionSchema.FromString(next(blob for kind, blob in metas if kind == "schema"))
        by_id = {field.fieldID: field.name for field in schema.fields}
        indexes = [_index(blob, by_id) for kind, blob in metas if kind == "index"]
        notes: list[str] = []
        fields = [_field(raw) for raw in schema.fields if raw.fieldID >= _FIRST_FIELD_ID and not raw.is_dynamic]
        for field in fields:
            if field.data_type.is_vector and field.name not in {index.field_name for index in indexes}:
                notes.append(f"{field.name} has no index: AUTOINDEX is made")
                indexes.append(Index(field.name, "AUTOINDEX"))
        ((rows,),) = self._rows(f"SELECT count(*) FROM {_quoted(name)}")
        return Shape(
            name,
            fields,
            indexes,
            rows=rows,
            has_dynamic_field=schema.enable_dynamic_field,
            auto_id=any(raw.autoID for raw in schema.fields),
            functions=[_function(raw) for raw in schema.functions],
            description=schema.description,
            notes=notes,
        )

    def batches(self, shape: Shape, place: Any, rows: int) -> Iterator[Batch]:
        """In the order of SQLite's own ids."""
        last = place or 0
        while True:
            query = f"SELECT id, CAST(data AS BLOB) FROM {_quoted(shape.name)} WHERE id > ? ORDER BY id LIMIT ?"
            found = list(self._rows(query, last, rows))
            if not found:
                return
            last = found[-1][0]
            yield Batch(batch_of(shape, _columns(shape, [data for _, data in found])), last)

    def _rows(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._db.execute(query, values)
        except sqlite3.Error as error:
            raise MigrationError(f"{self._file} cannot be read as a file of Milvus Lite 2: {error}") from None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _field(raw: Any) -> Field:
    kind = DataType(raw.data_type)
    texts = {pair.key: pair.value for pair in raw.type_params}
    params: dict[str, Any] = {key: read(texts[key]) for key, read in _PARAMS.items() if key in texts}
    params |= {key: texts[key].lower() == "true" for key in _TEXT_PARAMS if key in texts}
    if "analyzer_params" in texts:
        params["analyzer_params"] = json.loads(texts["analyzer_params"])
    return Field(
        raw.name,
        kind,
        params,
        DataType(raw.element_type) if kind is DataType.ARRAY else None,
        is_primary=raw.is_primary_key,
        is_partition_key=raw.is_partition_key,
        nullable=raw.nullable,
        origin=kind.milvus_name,
    )


def _index(blob: bytes, by_id: dict[int, str]) -> Index:
    field, name, params = 0, "", {}
    for number, value in members(blob):
        if number == _INDEX_FIELD_ID:
            field = int(value)
        elif number == _INDEX_NAME and isinstance(value, bytes):
            name = value.decode()
        elif number == _INDEX_PARAMS:
            pair = common_pb2.KeyValuePair.FromString(value)
            params[pair.key] = pair.value
    kind, metric = params.pop("index_type", "AUTOINDEX"), params.pop("metric_type", "")
    inner = json.loads(params.pop("params", "{}"))
    # Lite 2 keeps the dimension and its own choices for AUTOINDEX among the parameters.
    params = {} if kind == "AUTOINDEX" else {**inner, **{k: v for k, v in params.items() if k != "dim"}}
    return Index(by_id[field], kind, metric, params, name)


def _function(raw: Any) -> Function:
    params = {pair.key: pair.value for pair in raw.params}
    return Function(raw.name, raw.type, list(raw.input_field_names), list(raw.output_field_names), params)


def _columns(shape: Shape, records: list[bytes]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {field.name: [None] * len(records) for field in shape.stored_fields}
    if shape.has_dynamic_field:
        columns[DYNAMIC_COLUMN] = [None] * len(records)
    for i, record in enumerate(records):
        for number, value in members(record):
            if number == _RECORD_FIELDS:
                data = schema_pb2.FieldData.FromString(value)
                if data.field_name in columns:
                    columns[data.field_name][i] = _value(data)
    return columns


def _value(data: Any) -> Any:
    """The one value of a FieldData; None if it is NULL."""
    if data.valid_data and not data.valid_data[0]:
        return None
    outer = data.WhichOneof("field")
    if outer is None:
        return None
    held = getattr(data, outer)
    inner = held.WhichOneof("data")
    if inner is None:
        return None
    found = getattr(held, inner)
    if outer == "vectors":
        return _vector(inner, found)
    if inner == "array_data":
        one = found.data[0]
        kind = one.WhichOneof("data")
        return list(getattr(one, kind).data) if kind else []
    if inner == "json_data":
        return found.data[0].decode()
    return found.data[0]


def _vector(kind: str, found: Any) -> Any:
    if kind == "float_vector":
        return list(found.data)
    if kind == "sparse_float_vector":
        pairs = np.frombuffer(found.contents[0], _SPARSE)
        return dict(zip(pairs["place"].tolist(), pairs["value"].tolist(), strict=True))
    return found
