"""BITMAP: fields of few values."""

from __future__ import annotations

from milvine.errors import ParameterInvalid
from milvine.index.scalar_type import ScalarType
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType


class Bitmap(ScalarType):
    has_offset_cache = True
    casts = ("BOOL", "VARCHAR")
    refused_cast = "json_cast_type {} is not supported for BITMAP index"

    def check_field(self, field: FieldSchema) -> None:
        if field.is_primary:
            raise ParameterInvalid("create bitmap index on primary key not supported")
        if field.data_type.is_floating or field.data_type is DataType.TIMESTAMPTZ:
            raise ParameterInvalid("bitmap index are only supported on bool, int, string and array field")
        if field.element_type is not None and field.element_type.is_floating:
            raise ParameterInvalid("bitmap index are only supported on bool, int, string for array field")


TYPE = Bitmap("BITMAP")
