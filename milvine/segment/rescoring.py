"""New scores for the nearest rows of a segment, before the results of the segments are merged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from milvine.segment.rows import RowSet
from milvine.segment.topk import select_winners

Array = np.ndarray[Any, Any]


class SegmentRescoring(Protocol):
    """A score is the negative distance, so that a larger one is nearer for every metric."""

    @property
    def field_ids(self) -> frozenset[int]:
        """The fields whose values it reads."""
        ...

    @property
    def details(self) -> Mapping[str, object]:
        """What it does, for explanations."""
        ...

    def rescored(self, rows: RowSet, query: Array, distances: Array, offsets: Array) -> Array:
        """The new distances, float32 (n,). query, offsets: int64 (n,), the query and the row of each distance."""
        ...


def reordered(
    rescoring: SegmentRescoring, rows: RowSet, primary_field_id: int, distances: Array, offsets: Array
) -> tuple[Array, Array]:
    """Distances and row offsets (nq, k), padded with inf and -1, in the order of the new scores and of the keys."""
    is_there = offsets >= 0
    query, _ = np.nonzero(is_there)
    found = offsets[is_there]
    near = rescoring.rescored(rows, query, distances[is_there], found)
    keys = rows.column(primary_field_id).take(found).values
    order, _ = select_winners(query, near, keys, len(offsets), None)
    distances, offsets = distances.copy(), offsets.copy()
    distances[is_there], offsets[is_there] = near[order], found[order]
    return distances, offsets
