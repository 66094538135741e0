"""What an index type of a field that is not a vector is: the fields and parameters that it takes, and building.

Each type is a module of `scalar_types/` with one object, `TYPE`, or with several, `TYPES`, and a line in
`scalar_registry`. Texts: Milvus's indexparamcheck.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from milvine.errors import ParameterInvalid, ParameterMissing
from milvine.index import scalar
from milvine.index.scalar import ScalarIndex
from milvine.model.columns import Column
from milvine.model.json_paths import JsonPath
from milvine.model.schema import FieldSchema, IndexSpec
from milvine.model.types import DataType

JSON_CAST_TYPE, JSON_CAST_FUNCTION = "json_cast_type", "json_cast_function"
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
DATA_TYPE, PATH, CAST, CAST_FUNCTION = "data_type", "path", "cast", "cast_function"
"""Build parameters: the field's type and, for JSON, the indexed path (a list of keys), a json_cast_type and perhaps a
json_cast_function."""


class ScalarType:
    """A type over values: any two of them build the same, since the values decide how rows are listed."""

    can_map = True
    has_offset_cache = False
    casts: tuple[str, ...] = ()
    """The json_cast_types that are allowed."""
    refused_cast = "json_cast_type {} is not supported"

    def __init__(self, name: str) -> None:
        self.name = name

    def check_field(self, field: FieldSchema) -> None:
        """Raises ParameterInvalid if the type does not take the field."""

    def build_params(self, field: FieldSchema, flat: Mapping[str, str]) -> dict[str, Any]:
        """Raises ParameterInvalid and ParameterMissing."""
        params: dict[str, Any] = {DATA_TYPE: int(field.data_type)}
        if field.data_type is DataType.JSON:
            params[CAST] = self.cast(flat)
        return params

    def cast(self, flat: Mapping[str, str]) -> str:
        """The kinds of values of a JSON field that are indexed."""
        if JSON_CAST_TYPE not in flat:
            raise ParameterMissing("json index must specify cast type", missing_param=JSON_CAST_TYPE)
        cast = upper(flat[JSON_CAST_TYPE])
        if cast not in self.casts:
            raise ParameterInvalid(self.refused_cast.format(cast))
        return cast

    def build(self, column: Column, build_params: Mapping[str, Any]) -> dict[JsonPath, ScalarIndex]:
        """Indexes by path; a field that is not JSON has the empty path."""
        if column.data_type is DataType.JSON:
            return dict(scalar.index_json(column, tuple(build_params[PATH]), build_params[CAST]))
        return {(): scalar.index_field(column)}


def number_paths(indexes: Iterable[IndexSpec]) -> frozenset[tuple[int, JsonPath]]:
    """The fields and JSON paths of which the numbers in texts are indexed."""
    return frozenset((i.field_id, tuple(i.build_params[PATH])) for i in indexes if CAST_FUNCTION in i.build_params)


def upper(text: str) -> str:
    return text.strip().upper()


def integer(text: str, refusal: str) -> int:
    """An integer as Go's Atoi reads it. Raises ParameterInvalid."""
    if _INTEGER.fullmatch(text) is None or not -(2**63) <= int(text) < 2**63:
        raise ParameterInvalid(f"{refusal}, got: {text}")
    return int(text)
