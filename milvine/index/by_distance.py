"""Nearest rows by a function that gives the distances from one query to many vectors.

`distances_to(vectors, query, metric)` returns float32 (n,), inf for rows that are no hits. The distance of a row does
not depend on the other rows. Shapes, order and padding are as in `index.scan`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from milvine.model.records import record
from milvine.model.types import MetricType

Array = np.ndarray[Any, Any]

_FIRST_ROWS = 1 << 14
DistancesTo = Callable[[Any, Any, MetricType], Array]


@record
class Band:
    """The range of allowed distances: low <= distance < high, compared as float32."""

    low: np.float32
    high: np.float32

    def holds(self, distances: Array) -> Array:
        inside: Array = (distances >= self.low) & (distances < self.high)
        return inside


def padded(nq: int, k: int) -> tuple[Array, Array]:
    """Results without hits."""
    return np.full((nq, k), np.inf, np.float32), np.full((nq, k), -1, np.int64)


def _near(distances: Array, k: int) -> Array:
    """Places, ascending, that hold the nearest k hits: few of many, since the first rows tell how near those are."""
    first = max(_FIRST_ROWS, 8 * k)
    if len(distances) < 4 * first:
        return np.flatnonzero(np.isfinite(distances))
    farthest = np.partition(distances[:first], k - 1)[k - 1]
    places = np.flatnonzero(distances <= farthest)
    return places if np.isfinite(farthest) else places[np.isfinite(distances[places])]


def nearest_by(
    distances_to: DistancesTo,
    vectors: Any,
    queries: Any,
    k: int,
    metric: MetricType,
    mask: Array | None,
    band: Band | None,
) -> tuple[Array, Array]:
    """The nearest k rows of bool (n,) `mask`, inside `band` if there is one, exactly."""
    rows = np.arange(len(vectors)) if mask is None else np.flatnonzero(mask)
    distances, found = padded(len(queries), k)
    if len(rows) == 0:
        return distances, found
    if len(rows) < len(vectors):
        vectors = vectors[rows]
    for number, query in enumerate(queries):
        all_distances = distances_to(vectors, query, metric)
        inside = _near(all_distances, k) if band is None else np.flatnonzero(band.holds(all_distances))
        if len(inside) > k:
            inside = inside[np.argpartition(all_distances[inside], k - 1)[:k]]
        inside = inside[np.argsort(all_distances[inside], kind="stable")]
        distances[number, : len(inside)] = all_distances[inside]
        found[number, : len(inside)] = rows[inside]
    return distances, found


def ordered_by(
    distances_to: DistancesTo, vectors: Any, queries: Any, rows: Array, k: int, metric: MetricType
) -> tuple[Array, Array]:
    """Candidates `rows` (nq, c), -1 for none, by their exact distances: the nearest k."""
    distances, found = padded(len(queries), k)
    for number, query in enumerate(queries):
        candidates = rows[number][rows[number] >= 0]
        if len(candidates):
            exact = distances_to(vectors[candidates], query, metric)
            order = np.argsort(exact, kind="stable")[: min(k, np.count_nonzero(np.isfinite(exact)))]
            distances[number, : len(order)] = exact[order]
            found[number, : len(order)] = candidates[order]
    return distances, found
