"""Rows of JSON to columns, and columns of results to rows. REST loops over rows only here."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from milvine.errors import ParameterInvalid, RestInvalidInsertData
from milvine.model import json_text
from milvine.model.columns import ARROW_TYPES, NUMPY_DTYPES, Column
from milvine.model.json_text import Sent, plain_text
from milvine.model.records import record
from milvine.model.requests import OutputField, ReadResult
from milvine.model.schema import DYNAMIC_FIELD_NAME, CollectionSchema, FieldSchema
from milvine.model.types import DataType
from milvine.model.vectors import KINDS, kind_of
from milvine.model.vectors.base import JsonMismatch
from milvine.rest_api.body import parse_bool

Array = np.ndarray[Any, Any]
Row = Mapping[str, Any]
DISTANCE = "distance"
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBERS = frozenset({int, float})
_LARGEST_DOUBLE = int(sys.float_info.max)
_TEXTS = frozenset({str, type(None)})
_CONTAINERS = frozenset({dict, list})
_PLAIN = frozenset({str, int, float, bool})
_KEEPS_TEXT = frozenset({DataType.VARCHAR, DataType.JSON, DataType.TIMESTAMPTZ})
_MAX_SHOWN = 256


@record
class Rows:
    """Rows of a body: decoded, and each member as sent, which is read from the body's text."""

    decoded: Sequence[Row]
    sent: Callable[[], Sequence[Mapping[str, Sent]]]


def _refused(detail: str, **fields: object) -> RestInvalidInsertData:
    return RestInvalidInsertData(ParameterInvalid(detail, **fields).message)


def shown(value: object) -> str:
    """A value as in a message; a long one is cut."""
    text = plain_text(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _bad_value(field: FieldSchema, value: object, reason: str) -> RestInvalidInsertData:
    return _refused(reason, expected=field.data_type.milvus_name, actual=shown(value))


def _vector_values(field: FieldSchema, values: list[Any]) -> Any:
    try:
        return kind_of(field.data_type).from_json(field, values)
    except JsonMismatch as error:
        if error.value is None:
            raise _refused(error.reason) from error
        raise _bad_value(field, error.value, error.reason) from error


def _integer(field: FieldSchema, value: object) -> int:
    text = plain_text(value)
    if not _INTEGER.fullmatch(text):
        raise _bad_value(field, value, f'strconv.ParseInt: parsing "{shown(value)}": invalid syntax')
    return int(text)


def _integer_values(field: FieldSchema, values: list[Any]) -> Array:
    if set(map(type, values)) != {int}:
        values = [_integer(field, v) for v in values]
    dtype = NUMPY_DTYPES[field.data_type]
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    if min(values) < low or max(values) > high:
        wrong = next(v for v in values if not low <= v <= high)
        raise _bad_value(field, wrong, f'strconv.ParseInt: parsing "{wrong}": value out of range')
    return np.array(values, dtype)


def _number(field: FieldSchema, value: object) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        return float(value)
    except ValueError:
        reason = f'strconv.ParseFloat: parsing "{shown(value)}": invalid syntax'
        raise _bad_value(field, value, reason) from None


def _float_values(field: FieldSchema, values: list[Any]) -> Array:
    if not set(map(type, values)) <= _NUMBERS:
        values = [_number(field, v) for v in values]
    try:
        with np.errstate(over="ignore"):
            return np.array(values, NUMPY_DTYPES[field.data_type])
    except OverflowError:
        wrong = next(v for v in values if type(v) is int and abs(v) > _LARGEST_DOUBLE)
        raise _bad_value(field, wrong, f'strconv.ParseFloat: parsing "{shown(wrong)}": value out of range') from None


def _boolean(field: FieldSchema, value: object) -> bool:
    try:
        return parse_bool(plain_text(value))
    except ValueError as error:
        raise _bad_value(field, value, str(error)) from error


def _boolean_values(field: FieldSchema, values: list[Any]) -> Array:
    if set(map(type, values)) != {bool}:
        values = [_boolean(field, v) for v in values]
    return np.array(values, np.bool_)


def _as_texts(field: FieldSchema, values: list[Any], rows: Rows) -> list[Any]:
    """Values of a field that stores text, as the text that Milvus stores: objects and lists as sent."""
    kinds = set(map(type, values))
    if kinds <= _TEXTS:
        return values
    if not kinds & _CONTAINERS:
        return [None if v is None else plain_text(v) for v in values]
    return [
        (None if v is None else bytes(sent[field.name]).decode()) if type(v) not in _PLAIN else plain_text(v)
        for v, sent in zip(values, rows.sent(), strict=True)
    ]


def _text_values(_field: FieldSchema, values: list[str]) -> pa.StringArray:
    return pa.array(values, pa.string())


def _json_values(_field: FieldSchema, values: list[str]) -> pa.BinaryArray:
    """A string is JSON text itself, as in Milvus."""
    return pa.array([v.encode() for v in values], pa.binary())


_ELEMENT_KINDS: dict[DataType, frozenset[type]] = {
    DataType.BOOL: frozenset({bool}),
    DataType.INT8: frozenset({int}),
    DataType.INT16: frozenset({int}),
    DataType.INT32: frozenset({int}),
    DataType.INT64: frozenset({int}),
    DataType.FLOAT: _NUMBERS,
    DataType.DOUBLE: _NUMBERS,
    DataType.VARCHAR: frozenset({str}),
}


def _array_values(field: FieldSchema, values: list[Any]) -> pa.ListArray:
    """Lists of the JSON kind of the element type; a string is JSON text of a list, as in Milvus."""
    assert field.element_type is not None
    lists = [_parsed_list(field, v) if type(v) is str else v for v in values]
    for value in lists:
        if type(value) is not list or not set(map(type, value)) <= _ELEMENT_KINDS[field.element_type]:
            raise _bad_array(field, value, "its elements are of another type")
    flat = list(chain.from_iterable(lists))
    try:
        if field.element_type.is_floating:
            flat = list(map(float, flat))
        elements = pa.array(flat, ARROW_TYPES[field.element_type])
    except (pa.ArrowInvalid, OverflowError) as error:
        raise _bad_array(field, lists[0] if len(lists) == 1 else lists, "an element is out of range") from error
    offsets = np.zeros(len(lists) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, lists), np.int64, len(lists)), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), elements)


def _parsed_list(field: FieldSchema, text: str) -> Any:
    try:
        return json_text.loads(text)
    except json_text.NotJson as error:
        raise _bad_array(field, text, str(error)) from error


def _bad_array(field: FieldSchema, value: object, reason: str) -> RestInvalidInsertData:
    assert field.element_type is not None
    return _refused(reason, expected=f"Array of {field.element_type.milvus_name}", actual=shown(value))


_DECODERS: dict[DataType, Callable[[FieldSchema, list[Any]], Any]] = {
    DataType.BOOL: _boolean_values,
    DataType.INT8: _integer_values,
    DataType.INT16: _integer_values,
    DataType.INT32: _integer_values,
    DataType.INT64: _integer_values,
    DataType.FLOAT: _float_values,
    DataType.DOUBLE: _float_values,
    DataType.VARCHAR: _text_values,
    DataType.TIMESTAMPTZ: _text_values,
    DataType.ARRAY: _array_values,
    DataType.JSON: _json_values,
    **dict.fromkeys(KINDS, _vector_values),
}
_FILLERS: dict[DataType, object] = {
    DataType.VARCHAR: "",
    DataType.TIMESTAMPTZ: "",
    DataType.ARRAY: [],
    DataType.JSON: "null",
    DataType.BOOL: False,
}


def _column(field: FieldSchema, rows: Rows) -> Column:
    values = [row.get(field.name) for row in rows.decoded]
    if field.data_type in _KEEPS_TEXT:
        values = _as_texts(field, values, rows)
    validity: Array = np.fromiter((v is not None for v in values), np.bool_, len(values))
    if validity.all():
        return Column(field.data_type, _DECODERS[field.data_type](field, values))
    if field.data_type.is_vector and field.nullable:
        given = [v for v in values if v is not None]
        empty = kind_of(field.data_type).fillers(0, field.dim or 0)
        return Column(field.data_type, _vector_values(field, given) if given else empty, validity)
    if field.data_type.is_vector:
        raise _refused(f"missing vector field: {field.name}", expected=field.data_type.milvus_name, actual="")
    if not field.nullable and field.default_value is None:
        raise _refused(f"row {int(np.argmin(validity))} does not has field {field.name}")
    filler = _FILLERS.get(field.data_type, 0)
    filled = [filler if v is None else v for v in values]
    return Column(field.data_type, _DECODERS[field.data_type](field, filled), validity)


def _dynamic_column(schema: CollectionSchema, rows: Rows) -> Column | None:
    """Members that the schema does not name, as JSON objects without nulls."""
    static = {f.name for f in schema.user_fields}
    extras = [{k: v for k, v in row.items() if k not in static} for row in rows.decoded]
    if not schema.enable_dynamic_field:
        if any(extras):
            raise _refused("has pass more field without dynamic schema, please check it")
        return None
    if any(DYNAMIC_FIELD_NAME in extra for extra in extras):
        raise _refused(f"use the invalid field name({DYNAMIC_FIELD_NAME}) when enable dynamicField")
    for place, extra in enumerate(extras):
        for name, value in extra.items():
            if type(value) is float and value.is_integer() and b"." not in bytes(rows.sent()[place][name]):
                extra[name] = int(value)  # as Milvus reads 1e2
    texts = [json_text.dumps({k: v for k, v in extra.items() if v is not None}) for extra in extras]
    return Column(DataType.JSON, pa.array(texts, pa.binary()))


def to_columns(schema: CollectionSchema, rows: Rows) -> dict[str, Column]:
    """Columns of an insert. Raises RestInvalidInsertData for the first value that does not fit the schema."""
    primary = schema.primary_field
    if primary.auto_id and any(row.get(primary.name) not in (None, "") for row in rows.decoded):
        raise _refused(f"no need to pass pk field({primary.name}) when autoid==true in insert")
    return _to_columns(schema, rows, frozenset({primary.name} if primary.auto_id else ()))


def to_columns_with_keys(schema: CollectionSchema, rows: Rows) -> dict[str, Column]:
    """Columns of an insert that may have keys although ids are automatic. Raises as `to_columns` does."""
    primary = schema.primary_field
    if primary.auto_id and all(row.get(primary.name) in (None, "") for row in rows.decoded):
        return to_columns(schema, rows)
    return _to_columns(schema, rows)


def to_upsert_columns(schema: CollectionSchema, rows: Rows) -> dict[str, Column]:
    """Columns of an upsert, which names its rows by key even where ids are automatic. Raises as `to_columns` does."""
    return _to_columns(schema, rows)


def to_partial_columns(schema: CollectionSchema, rows: Rows) -> dict[str, Column]:
    """Columns of a partial upsert, whose rows must all have the same fields."""
    given = {f.name for f in schema.user_fields if f.name in rows.decoded[0]}
    for number, row in enumerate(rows.decoded):
        lacking = sorted(given - row.keys())
        if lacking:
            raise _refused(f"row {number} does not has field {lacking[0]}")
        more = sorted((row.keys() & schema.by_name.keys()) - given)
        if more:
            raise _refused(f"row 0 does not has field {more[0]}")
    columns = _to_columns(schema, rows, frozenset(schema.by_name.keys() - given))
    if schema.enable_dynamic_field and all(row.keys() <= given for row in rows.decoded):
        del columns[DYNAMIC_FIELD_NAME]
    return columns


def _to_columns(schema: CollectionSchema, rows: Rows, left_out: frozenset[str] = frozenset()) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    for field in schema.user_fields:
        if field.name in left_out or (field.made_by is not None and not any(field.name in r for r in rows.decoded)):
            continue
        columns[field.name] = _column(field, rows)
    dynamic = _dynamic_column(schema, rows)
    if dynamic is not None:
        columns[DYNAMIC_FIELD_NAME] = dynamic
    return columns


def keys(values: Any, int64_as_text: bool) -> list[Any]:
    """Primary keys of a JSON list: int64 (n,), a StringArray or an empty list."""
    if isinstance(values, np.ndarray):
        return list(map(str, values.tolist())) if int64_as_text else values.tolist()
    plain: list[Any] = values if isinstance(values, list) else values.to_pylist()
    return plain


def _values(column: Column, int64_as_text: bool) -> list[Any]:
    """A column's values for orjson, which writes numpy's float32 with the fewest digits that identify it."""
    values: Any = column.values
    match column.data_type:
        case vector_type if vector_type.is_vector:
            plain = kind_of(vector_type).to_json(values)
        case DataType.FLOAT:
            plain = list(values)
        case DataType.JSON:
            plain = [text.decode() for text in values.to_pylist()]
        case DataType.ARRAY if pa.types.is_float32(values.type.value_type):
            ends = np.cumsum(values.value_lengths().to_numpy())
            plain = np.split(values.flatten().to_numpy(), ends[:-1]) if len(ends) else []
        case DataType.ARRAY if int64_as_text and pa.types.is_int64(values.type.value_type):
            plain = values.cast(pa.list_(pa.string())).to_pylist()
        case DataType.ARRAY:
            plain = values.to_pylist()
        case DataType.INT64 | DataType.VARCHAR:
            plain = keys(values, int64_as_text)
        case _:
            plain = values.tolist()
    if column.validity is None:
        return plain
    return [v if valid else None for v, valid in zip(plain, column.validity.tolist(), strict=True)]


def _rows(columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _spread_dynamic(rows: list[dict[str, Any]], fields: Sequence[OutputField], dynamic_keys: Sequence[str]) -> None:
    """Adds the requested keys of `$meta`, or all of them, to their rows."""
    dynamic = next((f.column for f in fields if f.field.is_dynamic), None)
    if dynamic is None:
        return
    for row, text in zip(rows, dynamic.values.to_pylist(), strict=True):
        # An added field takes precedence over a key of the same name.
        row.update(
            (k, orjson.Fragment(bytes(v)))
            for k, v in json_text.members(text).items()
            if k not in row and (not dynamic_keys or k in dynamic_keys)
        )


def _static(fields: Sequence[OutputField], int64_as_text: bool) -> dict[str, list[Any]]:
    return {f.field.name: _values(f.column, int64_as_text) for f in fields if not f.field.is_dynamic}


def of_query(result: ReadResult, int64_as_text: bool) -> list[dict[str, Any]]:
    rows = _rows(_static(result.fields, int64_as_text))
    _spread_dynamic(rows, result.fields, result.dynamic_keys)
    return rows


def of_search(result: ReadResult, int64_as_text: bool, key_name: str = "") -> list[dict[str, Any]]:
    """The hits of all queries in one list, ordered by query. `key_name`: in place of the name of the key's field."""
    ranking = result.ranking
    assert ranking is not None
    columns = _static(result.fields, int64_as_text)
    columns[key_name or result.primary_field.name] = _values(ranking.keys, int64_as_text)
    rows = _rows(columns)
    _spread_dynamic(rows, result.fields, result.dynamic_keys)
    for row, score in zip(rows, np.asarray(ranking.scores, np.float32), strict=True):
        row[DISTANCE] = score
    return rows
