"""The order that a query requests."""

from __future__ import annotations

from collections.abc import Sequence

from milvine.errors import ParameterInvalid
from milvine.model.schema import CollectionSchema
from milvine.model.types import DataType
from milvine.segment.ordering import SortKey

SORTABLE = frozenset(
    {
        DataType.BOOL,
        DataType.INT8,
        DataType.INT16,
        DataType.INT32,
        DataType.INT64,
        DataType.FLOAT,
        DataType.DOUBLE,
        DataType.VARCHAR,
    }
)
_DIRECTIONS = {"": False, "asc": False, "ascending": False, "desc": True, "descending": True}
_NULLS = {"nulls_first": True, "nulls_last": False}


def sort_keys(specs: Sequence[str], schema: CollectionSchema) -> tuple[SortKey, ...]:
    """Each of `specs` is `field`, `field:direction` or `field:direction:nulls_first`.

    NULLs come last in ascending order and first in descending order, unless the spec says otherwise.
    """
    return tuple(_sort_key(spec.strip(), schema) for spec in specs if spec.strip())


def _sort_key(spec: str, schema: CollectionSchema) -> SortKey:
    name, direction, nulls = ([part.strip() for part in spec.split(":")] + ["", ""])[:3]
    is_descending = _DIRECTIONS.get(direction.lower())
    if is_descending is None:
        raise ParameterInvalid(
            f"invalid order direction '{direction.lower()}' for field '{name}', must be 'asc' or 'desc'"
        )
    nulls_first = _NULLS.get(nulls.lower()) if spec.count(":") > 1 else is_descending
    if nulls_first is None:
        raise ParameterInvalid(f"invalid null ordering '{nulls.lower()}', must be 'nulls_first' or 'nulls_last'")
    field = schema.by_name.get(name)
    if field is None:
        raise ParameterInvalid(f"order_by field '{name}' does not exist in collection schema")
    if field.data_type not in SORTABLE:
        raise ParameterInvalid(f"order_by field '{name}' has type {field.data_type.milvus_name} which is not sortable")
    return SortKey(field.field_id, is_descending, nulls_first)
