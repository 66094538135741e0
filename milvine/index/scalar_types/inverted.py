"""INVERTED: any field without moments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from milvine.errors import ParameterInvalid
from milvine.index.scalar import ScalarIndex, index_json_numbers
from milvine.index.scalar_type import CAST, CAST_FUNCTION, JSON_CAST_FUNCTION, PATH, ScalarType, upper
from milvine.model.columns import Column
from milvine.model.json_paths import JsonPath
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType

_STRING_TO_DOUBLE = "STRING_TO_DOUBLE"


class Inverted(ScalarType):
    casts = ("BOOL", "DOUBLE", "VARCHAR", "ARRAY_BOOL", "ARRAY_DOUBLE", "ARRAY_VARCHAR", "JSON")

    def check_field(self, field: FieldSchema) -> None:
        if field.data_type is DataType.TIMESTAMPTZ:
            raise ParameterInvalid(f"INVERTED are not supported on {field.data_type.milvus_name} field")

    def build_params(self, field: FieldSchema, flat: Mapping[str, str]) -> dict[str, Any]:
        params = super().build_params(field, flat)
        if field.data_type is not DataType.JSON or JSON_CAST_FUNCTION not in flat:
            return params
        function, cast = upper(flat[JSON_CAST_FUNCTION]), params[CAST]
        if function != _STRING_TO_DOUBLE:
            raise ParameterInvalid(f"{JSON_CAST_FUNCTION} {function} is not supported")
        if cast != "DOUBLE":
            raise ParameterInvalid(f"{JSON_CAST_FUNCTION} {function} is not supported for json_cast_type {cast}")
        return {**params, CAST_FUNCTION: function}

    def build(self, column: Column, build_params: Mapping[str, Any]) -> dict[JsonPath, ScalarIndex]:
        if CAST_FUNCTION not in build_params:
            return super().build(column, build_params)
        path: JsonPath = tuple(build_params[PATH])
        return {path: index_json_numbers(column, path)}


TYPE = Inverted("INVERTED")
