"""Boosted trees that give rows new scores, computed with XGBoost's arithmetic: float32, tree by tree."""

from __future__ import annotations

from typing import Any

import numpy as np

from milvine.model.records import record

Array = np.ndarray[Any, Any]
_CELLS = 1 << 20
"""Rows x trees that are walked at a time."""


@record
class BoostedTrees:
    """The nodes of all trees. Where the value of `feature` is below `threshold`, or missing and `goes_left`, a row goes
    on to `left`, otherwise to `right`. A leaf goes on to itself, and its `threshold` is what it adds to the score.

    roots: int64 (t,); the other arrays (m,) are int64, thresholds float32, goes_left bool.
    """

    feature_count: int
    is_logistic: bool
    base: float
    depth: int
    roots: Array
    left: Array
    right: Array
    feature: Array
    threshold: Array
    goes_left: Array

    @property
    def bytes_used(self) -> int:
        arrays = (self.roots, self.left, self.right, self.feature, self.threshold, self.goes_left)
        return sum(array.nbytes for array in arrays)

    def scores(self, features: Array, is_raw: bool) -> Array:
        """float32 (n,). features: float32 (n, feature_count), NaN where a value is missing. `is_raw`: the sums, not
        yet probabilities."""
        found = np.full(len(features), self.base, np.float32)
        step = max(1, _CELLS // max(1, len(self.roots)))
        for start in range(0, len(features), step):
            found[start : start + step] = self._sums(features[start : start + step])
        return found if is_raw or not self.is_logistic else _logistic(found)

    def _sums(self, features: Array) -> Array:
        rows = np.arange(len(features))[:, None]
        nodes = np.broadcast_to(self.roots, (len(features), len(self.roots)))
        for _ in range(self.depth):
            values = features[rows, self.feature[nodes]]
            is_left = np.where(np.isnan(values), self.goes_left[nodes], values < self.threshold[nodes])
            nodes = np.where(is_left, self.left[nodes], self.right[nodes])
        leaves = np.full((len(features), len(self.roots) + 1), self.base, np.float32)
        leaves[:, 1:] = self.threshold[nodes]
        with np.errstate(over="ignore", invalid="ignore"):
            sums: Array = np.cumsum(leaves, axis=1, dtype=np.float32)[:, -1]  # in order, unlike `sum`
        return sums


def _logistic(sums: Array) -> Array:
    small = np.exp(-np.abs(sums))
    found: Array = np.where(sums >= 0, 1, small) / (1 + small)
    return found.astype(np.float32)
