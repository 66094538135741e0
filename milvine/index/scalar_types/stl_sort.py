"""STL_SORT: numbers, texts and moments."""

from __future__ import annotations

from milvine.errors import ParameterInvalid
from milvine.index.scalar_type import ScalarType
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType

_OTHERS = (DataType.JSON, DataType.VARCHAR, DataType.TIMESTAMPTZ)


class StlSort(ScalarType):
    can_map = False
    casts = ("DOUBLE", "VARCHAR")
    refused_cast = "json_cast_type {} is not supported for STL_SORT index"

    def check_field(self, field: FieldSchema) -> None:
        data_type = field.data_type
        if data_type.is_integer or data_type.is_floating or data_type in _OTHERS:
            return
        raise ParameterInvalid(
            f"STL_SORT are only supported on numeric, varchar or timestamptz field, got {data_type.milvus_name}"
        )


TYPE = StlSort("STL_SORT")
