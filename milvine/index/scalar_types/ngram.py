"""NGRAM: pieces of texts, of a field or at a JSON path.

The two lengths of grams are checked, kept and described; a filter may use a piece of any length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from milvine.errors import ParameterInvalid, ParameterMissing
from milvine.index.scalar import ScalarIndex
from milvine.index.scalar_type import JSON_CAST_TYPE, PATH, ScalarType, integer, upper
from milvine.index.text_index import index_json_texts, index_texts
from milvine.model.columns import Column
from milvine.model.json_paths import JsonPath
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType

_MIN, _MAX = "min_gram", "max_gram"


class Ngram(ScalarType):
    def check_field(self, field: FieldSchema) -> None:
        if field.data_type not in (DataType.VARCHAR, DataType.JSON):
            raise ParameterInvalid("ngram index can only be created on VARCHAR or JSON field")

    def build_params(self, field: FieldSchema, flat: Mapping[str, str]) -> dict[str, Any]:
        params = super().build_params(field, flat)
        if _MIN not in flat or _MAX not in flat:
            raise ParameterMissing("Ngram index must specify both min_gram and max_gram")
        low, high = (integer(flat[name], f"{name} for Ngram index must be an integer") for name in (_MIN, _MAX))
        if not 0 < low <= high:
            raise ParameterInvalid(
                f"invalid min_gram or max_gram value for Ngram index, min_gram: {low}, max_gram: {high}"
            )
        return params

    def cast(self, flat: Mapping[str, str]) -> str:
        if JSON_CAST_TYPE not in flat:
            raise ParameterMissing(f"JSON field with ngram index must specify {JSON_CAST_TYPE}")
        cast = upper(flat[JSON_CAST_TYPE])
        if cast != "VARCHAR":
            raise ParameterInvalid(f"JSON field with ngram index only supports VARCHAR cast type, got: {cast}")
        return cast

    def build(self, column: Column, build_params: Mapping[str, Any]) -> dict[JsonPath, ScalarIndex]:
        if column.data_type is DataType.JSON:
            path: JsonPath = tuple(build_params[PATH])
            return {path: index_json_texts(column, path)}
        return {(): index_texts(column)}


TYPE = Ngram("NGRAM")
