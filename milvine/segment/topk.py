"""Choosing winners: the k nearest of each query, one per key."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc

Array = np.ndarray[Any, Any]


def key_codes(keys: Any) -> Array:
    """int64 codes, equal exactly where keys (int64 array or StringArray) are equal."""
    if isinstance(keys, np.ndarray):
        return keys
    codes: Array = keys.dictionary_encode().indices.to_numpy().astype(np.int64)
    return codes


def has_repeats(keys: Any) -> bool:
    """Whether a key (int64 array or StringArray) is there twice."""
    plain = keys.tolist() if isinstance(keys, np.ndarray) else keys.to_pylist()
    return len(set(plain)) < len(plain)


def select_winners(query: Array, distances: Array, keys: Any, nq: int, k: int) -> tuple[Array, Array]:
    """Places of the winners among the candidates, query by query and nearest first, and how many each query has.

    query: int64 (m,), the candidate's query. Ties keep the candidates' order. Of equal keys the nearest wins.
    """
    order = np.lexsort((np.arange(len(query)), distances, query))
    codes = key_codes(keys)[order]
    sorted_query = query[order]
    pairs = np.lexsort((np.arange(len(order)), codes, sorted_query))
    repeated = (codes[pairs[1:]] == codes[pairs[:-1]]) & (sorted_query[pairs[1:]] == sorted_query[pairs[:-1]])
    if repeated.any():
        first = np.ones(len(order), np.bool_)
        first[pairs[1:][repeated]] = False
        order, sorted_query = order[first], sorted_query[first]
    counts = np.bincount(sorted_query, minlength=nq)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return order[rank < k], np.minimum(counts, k)


def first_by_key(keys: Any, insert_ts: Array, limit: int | None) -> Array:
    """Places of the rows in ascending key order, the first `limit`; of equal keys the newest row."""
    if isinstance(keys, np.ndarray):
        candidates = np.arange(len(keys))
        if limit is not None and len(keys) > 4 * limit + 1024:
            bound = np.partition(keys, 2 * limit)[2 * limit]
            candidates = np.flatnonzero(keys <= bound)
        chosen = _sorted_unique(keys[candidates], insert_ts[candidates], limit)
        if limit is None or len(chosen) == limit or len(candidates) == len(keys):
            return candidates[chosen]
        return _sorted_unique(keys, insert_ts, limit)
    ranks = pc.rank(keys, sort_keys="ascending", tiebreaker="dense").to_numpy().astype(np.int64)
    return _sorted_unique(ranks, insert_ts, limit)


def _sorted_unique(keys: Array, insert_ts: Array, limit: int | None) -> Array:
    order = np.lexsort((-insert_ts, keys))
    ordered = keys[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return order[first][:limit]
