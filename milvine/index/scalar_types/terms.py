"""The index of the terms of a field with `enable_match`. It comes with the field, and no caller can ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from milvine.analysis.fields import analyzed_blocks
from milvine.index.scalar import ScalarIndex
from milvine.index.scalar_type import DATA_TYPE, ScalarType
from milvine.index.term_index import index_terms
from milvine.model.columns import Column
from milvine.model.json_paths import JsonPath
from milvine.model.properties import ANALYZER_PARAMS
from milvine.model.schema import TERMS_INDEX, FieldSchema, IndexSpec


class Terms(ScalarType):
    def build(self, column: Column, build_params: Mapping[str, Any]) -> dict[JsonPath, ScalarIndex]:
        return {(): index_terms(analyzed_blocks(build_params.get(ANALYZER_PARAMS), column.values))}


TYPE = Terms(TERMS_INDEX)


def terms_index(index_id: int, field: FieldSchema) -> IndexSpec:
    """The index of the terms of a field."""
    params: dict[str, Any] = {DATA_TYPE: int(field.data_type)}
    if ANALYZER_PARAMS in field.properties:
        params[ANALYZER_PARAMS] = field.properties[ANALYZER_PARAMS]
    name = f"{field.name} (terms)"
    return IndexSpec(index_id, field.field_id, name, TERMS_INDEX, None, {}, TERMS_INDEX, params)
