"""FMINDEX: pieces of the texts of a field, by the same structure as NGRAM.

The two sizes are checked, kept and described; the structure has no such sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from milvine.errors import ParameterInvalid
from milvine.index.scalar import ScalarIndex
from milvine.index.scalar_type import ScalarType, integer
from milvine.index.text_index import index_texts
from milvine.model.columns import Column
from milvine.model.json_paths import JsonPath
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType

_RATE, _RATES = "fm_sa_sample_rate", (4, 256)
_BLOCK, _BLOCKS = "fm_block_bytes", (8, 128)


class FmIndex(ScalarType):
    def check_field(self, field: FieldSchema) -> None:
        if field.data_type is not DataType.VARCHAR:
            raise ParameterInvalid("FM-index can only be created on VARCHAR field")

    def build_params(self, field: FieldSchema, flat: Mapping[str, str]) -> dict[str, Any]:
        for name, (low, high), what in (
            (_RATE, _RATES, "in"),
            (_BLOCK, _BLOCKS, "a power of two in"),
        ):
            if name not in flat:
                continue
            value = integer(flat[name], f"{name} for FM-index must be an integer")
            if not low <= value <= high or (name == _BLOCK and value & (value - 1)):
                raise ParameterInvalid(f"{name} for FM-index must be {what} [{low}, {high}], got: {value}")
        return super().build_params(field, flat)

    def build(self, column: Column, build_params: Mapping[str, Any]) -> dict[JsonPath, ScalarIndex]:
        return {(): index_texts(column)}


TYPE = FmIndex("FMINDEX")
