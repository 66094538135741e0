"""Scores of a model, which replace those of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.model.columns import Column
from milvine.model.records import record
from milvine.model_services.rerankers import Reranker
from milvine.storage.arrow_batches import to_arrow

Array = np.ndarray[Any, Any]


@record
class TextScores:
    """The model scores texts for the text of each query; NULL counts as the empty text. `deadline`: of the request, on
    time.monotonic()'s scale."""

    reranker: Reranker
    queries: Sequence[str]
    deadline: float

    def scores(self, query: Array, texts: Any) -> Array:
        """float32 (n,). query: int64 (n,), ascending; texts: StringArray (n,)."""
        plain = texts.fill_null("").to_pylist()
        ends = np.searchsorted(query, np.arange(len(self.queries) + 1)).tolist()
        found = [
            self.reranker.scores(text, plain[ends[number] : ends[number + 1]], self.deadline)
            for number, text in enumerate(self.queries)
        ]
        return np.concatenate(found)

    def values(self, query: Array, inputs: Sequence[Any]) -> Any:
        return pa.array(self.scores(query, inputs[0]))


@record
class ModelScores:
    """The texts are the values of a field."""

    field_id: int
    texts: TextScores

    @property
    def name(self) -> str:
        return "model"

    def rescored(self, scores: Array, query: Array, column: Column) -> Array:
        return self.texts.scores(query, to_arrow(column))
