"""INVERTED: any field."""

from __future__ import annotations

from collections.abc import Mapping

from milvine.errors import ParameterInvalid
from milvine.index.scalar_type import JSON_CAST_FUNCTION, ScalarType, upper


class Inverted(ScalarType):
    casts = ("BOOL", "DOUBLE", "VARCHAR", "ARRAY_BOOL", "ARRAY_DOUBLE", "ARRAY_VARCHAR", "JSON")

    def cast(self, flat: Mapping[str, str]) -> str:
        cast = super().cast(flat)
        if JSON_CAST_FUNCTION in flat:
            # With STRING_TO_DOUBLE, Milvus's filters find different rows with the index than without it.
            raise ParameterInvalid(f"{JSON_CAST_FUNCTION} {upper(flat[JSON_CAST_FUNCTION])} is not supported")
        return cast


TYPE = Inverted("INVERTED")
