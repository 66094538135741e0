"""The analyzers of fields."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from milvine.analysis.fields import field_analyzer
from milvine.analysis.multi import MultiAnalyzer, multi_analyzer_of
from milvine.analysis.registry import analyzer_of
from milvine.analysis.terms import Int64, Terms
from milvine.model.analyzer_params import check_analyzer_params, multi_analyzer_params
from milvine.model.properties import MULTI_ANALYZER_PARAMS
from milvine.model.schema import CollectionSchema, FieldSchema


def check_analyzers(schema: CollectionSchema, collection: str) -> None:
    """Raises InputError unless every analyzer of the schema can be built."""
    for params in check_analyzer_params(schema, collection):
        analyzer_of(params)


def naming_field(field: FieldSchema) -> str | None:
    """The field whose values name the analyzers of this field's rows; None if it has one analyzer for all."""
    return None if multi_analyzer_params(field) is None else _several(field).by_field


def tokens_of(field: FieldSchema, texts: pa.StringArray, names: Sequence[str | None]) -> tuple[Int64, pa.StringArray]:
    """`Analyzer.tokens` of a field's texts. `names` of the analyzers are used if the field has several."""
    if multi_analyzer_params(field) is not None:
        return _several(field).tokens(texts, names)
    return field_analyzer(field).tokens(texts)


def placed_terms_of(field: FieldSchema, texts: pa.StringArray, names: Sequence[str | None]) -> Terms:
    """As `tokens_of`, with the places of the terms in their texts."""
    if multi_analyzer_params(field) is not None:
        return _several(field).terms(texts, names)
    return field_analyzer(field).terms(texts)


def _several(field: FieldSchema) -> MultiAnalyzer:
    return multi_analyzer_of(field.properties[MULTI_ANALYZER_PARAMS])
