"""Chooses the k nearest candidates of each query in the order of distance and key, one per key."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Array = np.ndarray[Any, Any]


def key_codes(keys: Any) -> Array:
    """int64 codes that are equal exactly where the keys (int64 array or StringArray) are equal."""
    if isinstance(keys, np.ndarray):
        return keys
    codes: Array = keys.dictionary_encode().indices.to_numpy().astype(np.int64)
    return codes


def has_repeats(keys: Any) -> bool:
    """Whether one of the keys (int64 array or StringArray) occurs twice."""
    plain = keys.tolist() if isinstance(keys, np.ndarray) else keys.to_pylist()
    return len(set(plain)) < len(plain)


def select_winners(query: Array, distances: Array, keys: Any, nq: int, k: int | None) -> tuple[Array, Array]:
    """Positions of the first k candidates (None: all) by distance and key, one per key, query by query; and their
    number for each query.

    query: int64 (m,), the candidate's query. The nearest of equal keys wins; of equally near ones the last candidate.
    """
    order = _by_distance_and_key(query, distances, keys)
    codes = key_codes(keys)[order]
    sorted_query = query[order]
    pairs = np.lexsort((np.arange(len(order)), codes, sorted_query))
    repeated = (codes[pairs[1:]] == codes[pairs[:-1]]) & (sorted_query[pairs[1:]] == sorted_query[pairs[:-1]])
    if repeated.any():
        first = np.ones(len(order), np.bool_)
        first[pairs[1:][repeated]] = False
        order, sorted_query = order[first], sorted_query[first]
    counts = np.bincount(sorted_query, minlength=nq)
    if k is None:
        return order, counts
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return order[rank < k], np.minimum(counts, k)


def _by_distance_and_key(query: Array, distances: Array, keys: Any) -> Array:
    """Positions in the order of query, distance and key; of equal candidates the last comes first."""
    last_first = np.arange(len(query) - 1, -1, -1)
    query, distances = query[last_first], distances[last_first]
    if isinstance(keys, np.ndarray):
        return last_first[np.lexsort((keys[last_first], distances, query))]
    order = np.lexsort((distances, query))
    same = (query[order[1:]] == query[order[:-1]]) & (distances[order[1:]] == distances[order[:-1]])
    if not same.any():
        return last_first[order]
    # Only the keys in ties are compared, since ranking text is slow.
    is_tied = np.zeros(len(order), np.bool_)
    is_tied[1:] = same
    is_tied[:-1] |= same
    tied = order[is_tied]
    ranks = np.zeros(len(order), np.int64)
    ranks[tied] = key_ranks(keys.take(pa.array(last_first[tied])))
    return last_first[np.lexsort((ranks, distances, query))]


def key_ranks(keys: pa.StringArray) -> Array:
    """int64 (n,) that order as the keys do; equal for equal keys."""
    ranks: Array = pc.rank(keys, sort_keys="ascending", tiebreaker="dense").to_numpy().astype(np.int64)
    return ranks


def first_by_key(keys: Any, insert_ts: Array, limit: int | None) -> Array:
    """Positions of the first `limit` rows in ascending key order; of equal keys the newest row."""
    if isinstance(keys, np.ndarray):
        candidates = np.arange(len(keys))
        if limit is not None and len(keys) > 4 * limit + 1024:
            bound = np.partition(keys, 2 * limit)[2 * limit]
            candidates = np.flatnonzero(keys <= bound)
        chosen = _sorted_unique(keys[candidates], insert_ts[candidates], limit)
        if limit is None or len(chosen) == limit or len(candidates) == len(keys):
            return candidates[chosen]
        return _sorted_unique(keys, insert_ts, limit)
    return _sorted_unique(key_ranks(keys), insert_ts, limit)


def _sorted_unique(keys: Array, insert_ts: Array, limit: int | None) -> Array:
    order = np.lexsort((-insert_ts, keys))
    ordered = keys[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return order[first][:limit]
