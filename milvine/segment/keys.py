"""Which rows have a key: sorted keys and the row offset of each, searched without a Python loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.model.records import record

Array = np.ndarray[Any, Any]


@record
class KeyIndex:
    """sorted_keys: int64 (n,) or StringArray, ascending, equal keys in row order. order: int32 (n,) row offsets."""

    sorted_keys: Any
    order: Array

    @classmethod
    def build(cls, keys: Any) -> KeyIndex:
        if isinstance(keys, np.ndarray):
            order = np.argsort(keys, kind="stable").astype(np.int32)
            return cls(keys[order], order)
        order = pc.array_sort_indices(keys).to_numpy().astype(np.int32)
        return cls(keys.take(pa.array(order)), order)

    @property
    def bytes_used(self) -> int:
        return int(self.sorted_keys.nbytes + self.order.nbytes)

    def find(self, keys: Any) -> tuple[Array, Array]:
        """Rows with any of `keys` (same type as the index): row offsets int64 (m,), and for each the key's place."""
        if len(keys) == 0 or len(self.order) == 0:
            empty = np.zeros(0, np.int64)
            return empty, empty
        if isinstance(self.sorted_keys, np.ndarray):
            low = np.searchsorted(self.sorted_keys, keys, side="left")
            high = np.searchsorted(self.sorted_keys, keys, side="right")
        else:
            low = _search_strings(self.sorted_keys, keys, pc.less)
            high = _search_strings(self.sorted_keys, keys, pc.less_equal)
        counts = high - low
        places = np.repeat(np.arange(len(keys)), counts)
        starts = np.repeat(low - np.concatenate(([0], np.cumsum(counts)[:-1])), counts)
        positions = starts + np.arange(len(places))
        return self.order[positions].astype(np.int64), places


def has_duplicates(keys: Any) -> bool:
    """Whether any of keys (int64 or StringArray) is there twice."""
    if isinstance(keys, np.ndarray):
        ordered = np.sort(keys, axis=None)
        return bool((ordered[1:] == ordered[:-1]).any())
    return int(pc.count_distinct(keys).as_py()) < len(keys)


def _search_strings(sorted_keys: Any, keys: Any, comes_before: Any) -> Array:
    """For each key, how many sorted keys come before it: a binary search over all keys at once."""
    low = np.zeros(len(keys), np.int64)
    high = np.full(len(keys), len(sorted_keys), np.int64)
    while True:
        active = low < high
        if not active.any():
            return low
        middle = (low + high) // 2
        probes = sorted_keys.take(pa.array(np.minimum(middle, len(sorted_keys) - 1)))
        before = comes_before(probes, keys).to_numpy(zero_copy_only=False)
        low = np.where(active & before, middle + 1, low)
        high = np.where(active & ~before, middle, high)
