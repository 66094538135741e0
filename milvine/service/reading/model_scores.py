"""Scores of a model, which replace those of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from milvine.model.columns import Column
from milvine.model.records import record
from milvine.model_services.rerankers import Reranker

Array = np.ndarray[Any, Any]


@record
class ModelScores:
    """The model scores the texts of a field for the text of each query; NULL counts as the empty text. `deadline`: of
    the request, on time.monotonic()'s scale."""

    field_id: int
    reranker: Reranker
    queries: Sequence[str]
    deadline: float

    def rescored(self, scores: Array, query: Array, column: Column) -> Array:
        texts = column.values
        if column.validity is not None:
            texts = pc.if_else(column.validity, texts, "")
        plain = texts.to_pylist()
        ends = np.searchsorted(query, np.arange(len(self.queries) + 1)).tolist()
        found = [
            self.reranker.scores(text, plain[ends[number] : ends[number + 1]], self.deadline)
            for number, text in enumerate(self.queries)
        ]
        return np.concatenate(found)
