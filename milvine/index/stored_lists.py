"""Which rows each list of an index of inverted lists has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from milvine.index.base import Array
from milvine.model.records import record


@record
class StoredLists:
    """`order` has the rows list by list; those of list i are from `starts[i]` to `starts[i + 1]`."""

    order: Array
    starts: Array
    ranked: Callable[[Any, int], Array]
    """int64 (count,): the lists nearest to a query (1, …), nearest first."""

    @property
    def count(self) -> int:
        return len(self.starts) - 1

    def places(self, lists: Array) -> tuple[Array, Array]:
        """Where in `order` the rows of these lists are, and how many each list has."""
        starts, sizes = self.starts[lists], self.starts[lists + 1] - self.starts[lists]
        ends = np.cumsum(sizes)
        total = int(ends[-1]) if len(ends) else 0
        return np.arange(total) + np.repeat(starts - (ends - sizes), sizes), sizes

    def rows_of(self, lists: Array) -> tuple[Array, Array]:
        places, sizes = self.places(lists)
        return self.order[places], sizes
