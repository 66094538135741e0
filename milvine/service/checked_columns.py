"""Columns of rows that are written, checked against their field and converted to its type, with Milvus's texts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.errors import ParameterInvalid
from milvine.model.columns import NUMPY_DTYPES, Column, json_column, text_lengths, with_default
from milvine.model.numbers import check_finite
from milvine.model.schema import DYNAMIC_FIELD_NAME, CollectionSchema, FieldSchema
from milvine.model.schema_rules import MAX_JSON_BYTES
from milvine.model.types import DataType
from milvine.model.vectors import kind_of
from milvine.model.vectors.base import no_vectors
from milvine.service.arrays import checked_arrays, narrowed
from milvine.service.vectors import spread_vectors

_WIRE_NAMES = {
    DataType.BOOL: "bool",
    DataType.INT8: "int",
    DataType.INT16: "int",
    DataType.INT32: "int",
    DataType.INT64: "long int",
    DataType.FLOAT: "float32",
    DataType.DOUBLE: "float64(double)",
    DataType.VARCHAR: "string",
    DataType.JSON: "json",
}


def checked_column(
    schema: CollectionSchema, field: FieldSchema, column: Column, row_count: int, *, is_partial: bool = False
) -> Column:
    """The column in the schema's own type. Raises ParameterInvalid with Milvus's texts."""
    check_type(field, column)
    if field.data_type.is_vector:
        column = spread_vectors(field, column)
    values = column.values
    if len(values) != row_count:
        raise ParameterInvalid(
            f"the num_rows ({len(values)}) of field ({field.name}) is not equal to passed num_rows ({row_count})",
            expected=row_count,
            actual=len(values),
        )
    if column.validity is not None:
        if len(column.validity) != row_count:
            raise ParameterInvalid(
                f"the length of valid_data of field({field.name}) is wrong",
                expected=row_count,
                actual=len(column.validity),
            )
        column = with_default(field, column)
        values = column.values
        if column.validity is not None:
            if not field.nullable:
                raise ParameterInvalid(
                    f"the length of valid_data of field({field.name}) is wrong", expected=0, actual=row_count
                )
            if column.validity.all():
                column = Column(column.data_type, values)
    match field.data_type:
        case field_type if field_type.is_vector:
            values = kind_of(field_type).checked(values)
        case DataType.FLOAT | DataType.DOUBLE:
            check_finite(values)
        case DataType.INT8 | DataType.INT16:
            values = narrowed(values, NUMPY_DTYPES[field.data_type])
        case DataType.VARCHAR:
            _check_lengths(field, values)
        case DataType.ARRAY:
            values = checked_arrays(field, values)
        case DataType.JSON:
            return _checked_json(schema, field, column, is_partial=is_partial)
        case _:
            pass
    return Column(field.data_type, values, column.validity)


def check_type(field: FieldSchema, column: Column) -> None:
    wanted, sent = field.data_type, column.data_type
    if sent is wanted or (DataType.INT8 <= sent <= DataType.INT32 and DataType.INT8 <= wanted <= DataType.INT32):
        return
    if wanted.is_vector:
        if kind_of(wanted).takes(sent):
            return
        raise no_vectors(field, kind_of(wanted))
    if wanted is DataType.ARRAY:
        assert field.element_type is not None
        raise ParameterInvalid(
            f"array field '{field.name}' is illegal, array type mismatch",
            expected=f"need {field.element_type.milvus_name} array",
            actual="got nil",
        )
    kind = {DataType.VARCHAR: "varchar ", DataType.JSON: "json "}.get(wanted, "")
    raise ParameterInvalid(
        f"{kind}field '{field.name}' is illegal, array type mismatch",
        expected=f"need {_WIRE_NAMES[wanted]} array",
        actual="got nil",
    )


def _check_lengths(field: FieldSchema, values: pa.StringArray) -> None:
    assert field.max_length is not None
    lengths = text_lengths(values)
    if lengths.max(initial=0) > field.max_length:
        row = int(np.argmax(lengths > field.max_length))
        raise ParameterInvalid(
            f"length of varchar field {field.name} exceeds max length, row number: {row}, "
            f"length: {lengths[row]}, max length: {field.max_length}"
        )


def _checked_json(schema: CollectionSchema, field: FieldSchema, column: Column, *, is_partial: bool) -> Column:
    """A partial update may have keys named like fields that were added later, as in Milvus."""
    longest = int(text_lengths(column.values).max(initial=0))
    if longest > MAX_JSON_BYTES:
        what = "dynamic field" if field.is_dynamic else f"json field ({field.name})"
        raise ParameterInvalid(
            f"the length ({longest}) of {what} exceeds max length ({MAX_JSON_BYTES})",
            expected="valid length dynamic field" if field.is_dynamic else "valid length json string",
            actual="length exceeds max length",
        )
    try:
        parsed = json_column(column.values, column.validity)
    except ValueError as error:
        raise ParameterInvalid(f"the json field ({field.name}) holds text that is not JSON: {error}") from error
    if field.is_dynamic:
        if not pc.all(pc.match_substring_regex(column.values, r"^\s*\{")).as_py():
            raise ParameterInvalid("invalid dynamic field data, only json map is supported")
        assert parsed.paths is not None
        for path in parsed.paths.columns:
            if path == (DYNAMIC_FIELD_NAME,):
                raise ParameterInvalid(f"cannot set json key to: {DYNAMIC_FIELD_NAME}")
            if len(path) == 1 and path[0] in schema.by_name and not is_partial:
                raise ParameterInvalid(f"dynamic field name cannot include the static field name: {path[0]}")
    return parsed
