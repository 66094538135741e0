"""The terms of texts that no index file holds: of growing rows, of small segments, and of segments whose index is not
built yet or does not fit in memory."""

from __future__ import annotations

from milvine.analysis.fields import analyzed_blocks
from milvine.index.term_index import TermIndex, index_terms
from milvine.model.columns import Column
from milvine.model.properties import ANALYZER_PARAMS
from milvine.model.schema import FieldSchema
from milvine.segment.derived import Derived
from milvine.sized_cache import SizedCache

analyzed_texts: SizedCache[tuple[int, object], TermIndex] = SizedCache("analyzed_texts", 256 << 20)


class AnalyzedTexts:
    """Indexes of the terms of one segment or chunk, made at their first use."""

    __slots__ = ("_indexes",)

    def __init__(self) -> None:
        self._indexes: Derived[TermIndex] = Derived(analyzed_texts)

    def find(self, field: FieldSchema, column: Column) -> TermIndex:
        params = field.properties.get(ANALYZER_PARAMS)
        return self._indexes.find(field.field_id, lambda: index_terms(analyzed_blocks(params, column.values)))
