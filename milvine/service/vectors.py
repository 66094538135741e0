"""Checks the vectors of a request against their field."""

from __future__ import annotations

from milvine.errors import ParameterInvalid
from milvine.model.columns import Column
from milvine.model.schema import FieldSchema
from milvine.model.vectors import kind_of

MAX_SPREAD_BYTES = 512 << 20


def spread_vectors(field: FieldSchema, column: Column) -> Column:
    """The column, which may be compact, with a value per row, a filler for NULL. Raises ParameterInvalid."""
    values, validity = column.values, column.validity
    kind = kind_of(field.data_type)
    kind.check_sent(field, values, validity)
    if validity is None or len(values) == len(validity):
        return column
    check_filler(field, len(validity))
    return Column(column.data_type, kind_of(column.data_type).spread(values, validity, field.dim or 0), validity)


def check_filler(field: FieldSchema, row_count: int) -> None:
    """Bounds the rows of a small request, since NULLs take the memory of vectors."""
    if field.data_type.is_vector:
        size = row_count * kind_of(field.data_type).row_bytes(field.dim or 0)
        if size > MAX_SPREAD_BYTES:
            raise ParameterInvalid(
                f"{row_count} rows with NULLs of field {field.name} take {size} bytes, more than {MAX_SPREAD_BYTES}"
            )
