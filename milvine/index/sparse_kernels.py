"""Loops over the values of sparse vectors in C++, outside the GIL.

scipy's public classes call the same functions, but make several objects per call, and check that lists are in order.
All offsets and rows are int32, all values float32. Nothing is checked: a wrong offset reads or writes foreign memory.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from milvine.index.base import Array

MAX_VALUES = 2**31 - 1


@cache
def _tools() -> Any:
    """scipy's functions, imported at the first use, since the import would delay every start."""
    from scipy.sparse import _sparsetools

    return _sparsetools


def add_lists(starts: Array, ends: Array, rows: Array, values: Array, weights: Array, sums: Array) -> None:
    """Adds `weights[i] * values[j]` to `sums[rows[j]]` for each list i and all j from `starts[i]` to `ends[i]`.

    Each list must lie after the next one in `rows`. Then what is between two lists counts as a list with its end before
    its start, which the loop skips, so that one call takes all lists.
    """
    if len(starts) == 0:
        return
    bounds = np.empty(2 * len(starts), np.int32)
    bounds[0::2], bounds[1::2] = starts, ends
    spaced = np.zeros(2 * len(starts) - 1, np.float32)
    spaced[0::2] = weights
    _tools().csc_matvec(len(sums), len(spaced), bounds, rows, values, spaced, sums)


def add_joined(bounds: Array, rows: Array, values: Array, weights: Array, sums: Array) -> None:
    """As `add_lists`, for lists that lie one after the other: list i from `bounds[i]` to `bounds[i + 1]`."""
    _tools().csc_matvec(len(sums), len(weights), bounds, rows, values, weights, sums)


def row_sums(offsets: Array, places: Array, values: Array, weights: Array) -> Array:
    """float32 (n,): the sum of `values[j] * weights[places[j]]` over j from `offsets[i]` to `offsets[i + 1]`.

    It is the same number, to the last bit, that `add_lists` gives for lists in the order of places.
    """
    sums = np.zeros(len(offsets) - 1, np.float32)
    _tools().csr_matvec(len(sums), len(weights), offsets, places, values, weights, sums)
    return sums


def by_place(offsets: Array, places: Array, values: Array, place_count: int) -> tuple[Array, Array, Array]:
    """Starts (int32), rows and values of a list for each place; `offsets` and `places` as in `row_sums`."""
    starts = np.empty(place_count + 1, np.int32)
    rows, listed = np.empty(len(places), np.int32), np.empty(len(places), np.float32)
    _tools().csr_tocsc(len(offsets) - 1, place_count, offsets, places, values, starts, rows, listed)
    return starts, rows, listed
