"""The terms of a field's texts, by the field's own analyzer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.analysis.analyzer import Analyzer
from milvine.analysis.registry import analyzer_of
from milvine.analysis.terms import Terms
from milvine.model.properties import ANALYZER_PARAMS
from milvine.model.schema import FieldSchema

_BLOCK_BYTES = 8 << 20
"""So much text is analyzed at a time, which bounds the memory."""


def field_analyzer(field: FieldSchema) -> Analyzer:
    """The analyzer of a field that has one for all its rows."""
    return analyzer_of(field.properties.get(ANALYZER_PARAMS))


def terms_of(field: FieldSchema, text: str) -> Terms:
    """The terms of one text."""
    return field_analyzer(field).terms(pa.array([text], pa.string()))


def analyzed_blocks(params: str | None, texts: Any) -> Iterator[Terms]:
    """The terms of a column's texts (StringArray), in blocks of consecutive rows, by the field's analyzer_params."""
    analyzer = analyzer_of(params)
    offsets = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, 4 * texts.offset) if len(texts) else [0]
    start = 0
    while start < len(texts):
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + _BLOCK_BYTES, side="right")) - 1)
        yield analyzer.terms(texts[start:stop])
        start = stop
