"""Patterns over texts answered by an index of their pieces: it finds rows, and the texts of these are matched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from milvine.expr import like, regex
from milvine.expr.path_values import to_mask
from milvine.expr.predicate import Like, Regex
from milvine.model.columns import Column
from milvine.model.json_paths import JsonPath

Mask = np.ndarray[Any, np.dtype[np.bool_]]


class TextIndex(Protocol):
    """The texts of a field or of a JSON path. `own_texts`: a copy of the texts at a path, else None."""

    @property
    def own_texts(self) -> Any | None: ...

    def rows(self, texts: Any, pieces: Sequence[str]) -> np.ndarray[Any, Any] | None:
        """All rows of `texts` that may hold all of the pieces, ascending; None to match all texts instead."""
        ...

    def known(self) -> Mask | None:
        """JSON rows with a text."""
        ...


class TextSource(Protocol):
    @property
    def row_count(self) -> int: ...

    def column(self, field_id: int) -> Column: ...

    def text_index(self, field_id: int, path: JsonPath) -> TextIndex | None: ...


def answer_texts(predicate: Like | Regex, source: TextSource) -> tuple[Mask, Mask | None] | None:
    """Rows that match and rows with a text (None: all), as `indexed.answer`; None if there is no index, or no use."""
    target = predicate.target
    index = source.text_index(target.field_id, target.path)
    if index is None:
        return None
    module = like if isinstance(predicate, Like) else regex
    column = source.column(target.field_id)
    texts = column.values if index.own_texts is None else index.own_texts
    rows = index.rows(texts, module.pieces_of(predicate.pattern))
    if rows is None:
        return None
    match = like.match_pattern if isinstance(predicate, Like) else regex.match_regex
    matches = np.zeros(source.row_count, np.bool_)
    matches[rows[to_mask(match(texts.take(pa.array(rows)), predicate.pattern))]] = True
    return matches, column.validity if index.own_texts is None else index.known()
