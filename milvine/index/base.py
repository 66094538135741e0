"""The interface of an index over one vector column of one segment.

Distances are smaller-is-nearer, as in `scan`. An exact index gives the distances of the vectors themselves; the others
only name candidates, whose distances the caller takes from the raw column. So no quantised distance is ever returned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from milvine.index.by_distance import Band
from milvine.model.records import record

Array = np.ndarray[Any, Any]
KeyCodes = Callable[[Array], Array]
"""From row offsets to int64 codes that order as the keys of these rows do."""
DEFAULT_MAX_EMPTY = 2


@record
class Effort:
    """The requested effort of a search for k rows: `ef` of a graph, `nprobe` lists, and how many candidates of an index
    that is not exact are measured (at least k)."""

    ef: int
    nprobe: int
    candidates: int
    drop_ratio: float = 0.0
    """This share of a sparse query's smallest values is left out; then even an exact index only names candidates."""
    max_empty: int = DEFAULT_MAX_EMPTY
    """A search of a band ends after so many lists in a row without a hit; 0: after all lists."""

    def reaching(self, k: int) -> Effort:
        """At least the effort that a search for k rows needs."""
        return replace(self, ef=max(self.ef, k), candidates=max(self.candidates, k))

    def times(self, factor: int) -> Effort:
        """More of the same effort."""
        return replace(self, ef=factor * self.ef, nprobe=factor * self.nprobe, candidates=factor * self.candidates)


@record
class Found:
    """distances float32 (nq, k) and rows int64 (nq, k), nearest first, padded with inf and -1.

    `trusted` bool (nq,): False where too few allowed rows are near the query for the recall of an unfiltered search.
    `effort`: the ef or nprobe that was finally used. `finds_all`: padding shows that a query has no more hits.
    """

    distances: Array
    rows: Array
    trusted: Array
    effort: int
    finds_all: bool = False

    @property
    def is_whole(self) -> Array:
        """bool (nq,): True where there are certainly no more hits."""
        whole: Array = self.rows[:, -1] < 0 if self.finds_all else np.zeros(len(self.rows), np.bool_)
        return whole


class Lists(Protocol):
    """The lists of an index of inverted lists."""

    @property
    def count(self) -> int: ...
    def ranked(self, query: Any, count: int) -> Array:
        """int64 (count,): the lists nearest to a query (1, …), nearest first."""
        ...

    def rows_of(self, lists: Array) -> tuple[Array, Array]:
        """The rows in these lists, list by list, and int64: how many each of them has."""
        ...


class VectorIndex(Protocol):
    """An index read in place; threads share it."""

    @property
    def name(self) -> str:
        """The index type, for display."""
        ...

    @property
    def row_count(self) -> int: ...
    @property
    def memory_bytes(self) -> int:
        """Bytes of a resident index: its mapped pages and its heap."""
        ...

    @property
    def heap_bytes(self) -> int:
        """Bytes that it holds even if it is only mapped."""
        ...

    @property
    def is_exact(self) -> bool: ...
    def scan_pays(self, effort: Effort, kept: int) -> bool:
        """Whether a scan of all `kept` rows costs less than a search that keeps its recall among them."""
        ...

    def search(self, queries: Any, k: int, effort: Effort, mask: Array | None) -> Found:
        """The nearest k rows of bool (n,) `mask`, approximately."""
        ...

    def scan(self, queries: Any, k: int, mask: Array | None) -> tuple[Array, Array]:
        """The nearest k of all rows of `mask`, exactly; only an exact index has it."""
        ...

    @property
    def scan_by_key(self) -> Callable[[Any, int, Array | None, KeyCodes], tuple[Array, Array]] | None:
        """As `scan`, where rows of equal distance come in the order of their codes. None if no ties are to be expected
        or the index is not exact."""
        ...

    @property
    def scan_band(self) -> Callable[[Any, int, Array | None, Band], tuple[Array, Array]] | None:
        """As `scan`, of the rows inside a band. None where scans of the column may give other distances."""
        ...

    @property
    def lists(self) -> Lists | None:
        """None unless it is an index of inverted lists."""
        ...
