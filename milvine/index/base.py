"""What an index over one vector column of one segment does, whatever is behind it.

Distances are smaller-is-nearer, as in `scan`. An exact index gives the distances of the vectors themselves; the others
only name candidates, whose distances the caller takes from the raw column. So no quantised distance ever leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from milvine.model.records import record

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to look for k rows, as asked for: `ef` of a graph, `nprobe` lists, and how many candidates of an index
    that is not exact are measured (at least k)."""

    ef: int
    nprobe: int
    candidates: int


@record
class Found:
    """distances float32 (nq, k) and rows int64 (nq, k), nearest first, padded with inf and -1.

    `trusted` bool (nq,): False where too few allowed rows lie near the query for the answer to be as good as that of
    an unfiltered search. `effort`: the ef or nprobe that was used in the end.
    """

    distances: Array
    rows: Array
    trusted: Array
    effort: int


class VectorIndex(Protocol):
    """An index read in place; threads share it."""

    @property
    def name(self) -> str:
        """Its type, for people."""
        ...

    @property
    def row_count(self) -> int: ...
    @property
    def memory_bytes(self) -> int:
        """What a resident index holds: its mapped pages and its heap."""
        ...

    @property
    def heap_bytes(self) -> int:
        """What it holds even if it is only mapped."""
        ...

    @property
    def is_exact(self) -> bool: ...
    def scan_pays(self, effort: Effort, kept: int) -> bool:
        """Whether looking at all `kept` rows costs less than a search that keeps its recall among them."""
        ...

    def search(self, queries: Array, k: int, effort: Effort, mask: Array | None) -> Found:
        """The nearest k rows of bool (n,) `mask`, approximately."""
        ...

    def scan(self, queries: Array, k: int, mask: Array | None) -> tuple[Array, Array]:
        """All rows of `mask` looked at; only of an exact index."""
        ...
