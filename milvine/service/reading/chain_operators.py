"""The operators of function chains that choose and order the hits of a whole search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from milvine.model.columns import ColumnBatch
from milvine.model.records import record
from milvine.segment.chains import ID, SCORE, Frame, frame_of, ranks
from milvine.segment.groups import codes_of
from milvine.service.reading.rank import Fused, GroupRanker, GroupScorer
from milvine.storage.arrow_batches import to_arrow

Array = np.ndarray[Any, Any]


class Operator(Protocol):
    def run(self, frame: Frame) -> Frame: ...


@record
class SortOperator:
    """Orders the hits of each query; NULLs come last, and equal hits in the ascending order of `tie_break`."""

    column: str
    is_descending: bool
    tie_break: str | None

    def run(self, frame: Frame) -> Frame:
        keys = [ranks(frame.columns[self.column], self.is_descending, nulls_first=False), frame.query]
        if self.tie_break is not None:
            keys.insert(0, ranks(frame.columns[self.tie_break], is_descending=False, nulls_first=True))
        return frame.take(np.lexsort(keys))


@record
class LimitOperator:
    """`limit` hits of each query after the first `offset`."""

    limit: int
    offset: int

    def run(self, frame: Frame) -> Frame:
        place = np.arange(len(frame.query)) - np.searchsorted(frame.query, frame.query)
        return frame.take(np.flatnonzero((place >= self.offset) & (place < self.offset + self.limit)))


@record
class SelectOperator:
    """Drops the other columns; those of the system stay."""

    columns: tuple[str, ...]

    def run(self, frame: Frame) -> Frame:
        kept = {name: array for name, array in frame.columns.items() if name in self.columns or name.startswith("$")}
        return Frame(frame.query, frame.rows, kept)


@record
class GroupOperator:
    """The best `size` hits of each of `limit` groups after the first `offset` groups, group by group."""

    column: str
    scorer: GroupScorer
    size: int
    limit: int
    offset: int

    def run(self, frame: Frame) -> Frame:
        frame = SortOperator(SCORE, is_descending=True, tie_break=ID).run(frame)
        nq = int(frame.query[-1]) + 1 if len(frame.query) else 0
        counts = np.bincount(frame.query, minlength=nq)
        hits = Fused(counts, frame.scores, np.arange(len(frame.query)))
        keys = ranks(frame.columns[ID], is_descending=False, nulls_first=True)
        ranker = GroupRanker(self.scorer, self.size, larger_is_nearer=True)
        codes = codes_of([frame.columns[self.column]])
        return frame.take(ranker.group_by_group(hits, codes, keys, self.offset, self.limit).places)


@record
class SearchChain:
    """The operators of a chain that ranks the hits of a whole search. `fields`: ids of fields by their names."""

    operators: Sequence[Operator]
    fields: dict[str, int]

    def ranked(self, counts: Array, scores: Array, rows: ColumnBatch, primary_field_id: int) -> Fused:
        """scores: float32 (n,), Milvus's."""
        nq = len(counts)
        columns = {name: to_arrow(rows.columns[field_id]) for name, field_id in self.fields.items()}
        keys = to_arrow(rows.columns[primary_field_id])
        frame = frame_of(np.repeat(np.arange(nq), counts), keys, scores, columns)
        for operator in self.operators:
            frame = operator.run(frame)
        return Fused(np.bincount(frame.query, minlength=nq), frame.scores, frame.rows)
