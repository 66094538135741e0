"""The terms of a field's texts, by the field's own analyzer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.analysis.analyzer import Analyzer
from milvine.analysis.multi import MultiAnalyzer, multi_analyzer_of
from milvine.analysis.registry import analyzer_of
from milvine.analysis.terms import Int64, Terms
from milvine.model.analyzer_params import multi_analyzer_params
from milvine.model.properties import ANALYZER_PARAMS, MULTI_ANALYZER_PARAMS
from milvine.model.schema import FieldSchema

_BLOCK_BYTES = 8 << 20
"""So much text is analyzed at a time, which bounds the memory."""


def field_analyzer(field: FieldSchema) -> Analyzer:
    """The analyzer of a field that has one for all its rows."""
    return analyzer_of(field.properties.get(ANALYZER_PARAMS))


def terms_of(field: FieldSchema, text: str) -> Terms:
    """The terms of one text."""
    return field_analyzer(field).terms(pa.array([text], pa.string()))


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


def text_blocks(texts: Any) -> Iterator[tuple[int, int]]:
    """Starts and ends of consecutive rows of a StringArray that are analyzed at a time."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, 4 * texts.offset) if len(texts) else [0]
    start = 0
    while start < len(texts):
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + _BLOCK_BYTES, side="right")) - 1)
        yield start, stop
        start = stop


def analyzed_blocks(params: str | None, texts: Any) -> Iterator[Terms]:
    """The terms of a column's texts (StringArray), in blocks of consecutive rows, by the field's analyzer_params."""
    analyzer = analyzer_of(params)
    for start, stop in text_blocks(texts):
        yield analyzer.terms(texts[start:stop])
