"""Output fields: which ones a read fetches, and the columns of its result."""

from __future__ import annotations

import re

import pyarrow as pa

from milvine.errors import ParameterInvalid, UnexpectedError
from milvine.model import json_text
from milvine.model.collections import Collection
from milvine.model.columns import Column, ColumnBatch, null_column
from milvine.model.functions import FunctionType
from milvine.model.records import record
from milvine.model.requests import OutputField, Ranking, ReadResult
from milvine.model.schema import FieldSchema
from milvine.service.context import Engine
from milvine.service.reading.names import loaded_ids

_DYNAMIC_KEY = re.compile(r"""(?P<plain>[A-Za-z_]\w*)|\$meta\[(?P<quote>["'])(?P<key>[^"']+)(?P=quote)\]""", re.ASCII)


@record
class Outputs:
    """Fields to fetch in order, the requested names, and the requested keys of `$meta` (() for all)."""

    fields: tuple[FieldSchema, ...] = ()
    names: tuple[str, ...] = ()
    dynamic_keys: tuple[str, ...] = ()


def requested(engine: Engine, collection: Collection, names: tuple[str, ...]) -> Outputs:
    schema = collection.schema
    loaded = loaded_ids(engine, collection)
    dynamic = schema.dynamic_field
    fields: dict[str, FieldSchema] = {}
    dynamic_keys: list[str] = []
    whole_dynamic = False
    for raw in names:
        name = raw.strip()
        field = schema.by_name.get(name)
        if name == "*":
            fields |= {
                f.name: f
                for f in schema.user_fields
                if (loaded is None or f.field_id in loaded) and f.made_by is not FunctionType.BM25
            }
            whole_dynamic = dynamic is not None and (loaded is None or dynamic.field_id in loaded)
        elif field is not None:
            if field.made_by is FunctionType.BM25:
                raise ParameterInvalid(f"not allowed to retrieve raw data of field {name}")
            if loaded is not None and field.field_id not in loaded:
                raise UnexpectedError(f"field {name} is not loaded")
            if field.is_dynamic:
                whole_dynamic = True
            else:
                fields[name] = field
        elif dynamic is not None:
            if loaded is not None and dynamic.field_id not in loaded:
                raise UnexpectedError(f"field {name} cannot be returned since dynamic field not loaded")
            dynamic_keys.append(_dynamic_key(name))
        else:
            raise ParameterInvalid(f"field {name} not exist")
    if dynamic is not None and (whole_dynamic or dynamic_keys):
        fields[dynamic.name] = dynamic
    named = [*fields] if "*" in (n.strip() for n in names) else [n.strip() for n in names]
    return Outputs(tuple(fields.values()), tuple(dict.fromkeys(named)), () if whole_dynamic else tuple(dynamic_keys))


def _dynamic_key(name: str) -> str:
    """`key` or `$meta["key"]`, if an expression can name it."""
    match = _DYNAMIC_KEY.fullmatch(name)
    if match is None:
        raise ParameterInvalid(f"parse output field name failed: {name}")
    return match["plain"] or match["key"]


def _output_fields(outputs: Outputs, rows: ColumnBatch) -> tuple[OutputField, ...]:
    return tuple(
        OutputField(
            f, _with_keys(rows.columns[f.field_id], outputs.dynamic_keys) if f.is_dynamic else rows.columns[f.field_id]
        )
        for f in outputs.fields
    )


def read_result(
    primary_field: FieldSchema, outputs: Outputs, rows: ColumnBatch, ts: int, ranking: Ranking | None = None
) -> ReadResult:
    """`rows` with the output fields, as an answer."""
    return ReadResult(
        primary_field=primary_field,
        fields=_output_fields(outputs, rows),
        output_names=outputs.names,
        dynamic_keys=outputs.dynamic_keys,
        ts=ts,
        ranking=ranking,
    )


def _with_keys(column: Column, keys: tuple[str, ...]) -> Column:
    """`$meta` of the result rows, reduced to the requested keys (() for all)."""
    if not keys:
        return column
    documents = map(json_text.members, column.values.to_pylist())
    texts = [json_text.dumps({k: d[k] for k in keys if k in d}) for d in documents]
    return Column(column.data_type, pa.array(texts, column.values.type), column.validity)


def no_rows(fields: tuple[FieldSchema, ...]) -> ColumnBatch:
    empty = {f.field_id: null_column(f, 0) for f in fields}
    return ColumnBatch(0, {i: Column(c.data_type, c.values) for i, c in empty.items()})
