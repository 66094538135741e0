"""MinHash signatures: rows of hashes, given as uint8 (n, bytes), and the bands by which similar ones are found.

The similarity of two signatures is the share of their hashes that are equal. A signature is cut into bands, and two
that share a band, all hashes of it, are likely to be similar. The index holds a key of each band of each row, sorted,
so that the rows that share a band with a query lie side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from milvine.index.base import Array, Effort, Found
from milvine.index.by_distance import nearest_by, ordered_by, padded
from milvine.index.exact import Exact, Nearest, no_preparation
from milvine.index.ivf import MIN_SCANNED
from milvine.model.records import record
from milvine.model.types import MetricType
from milvine.model.vectors.conversion import blocks

COMPARISON = "minhash"
"""The first of the `origin` of a comparison."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_COUNTED_SHARE = 8
"""With more candidates than the rows divided by this, counting them in an array of all rows is faster than sorting."""


@record
class Bands:
    """`count` bands of `size` bytes each; what is left at the end of a signature belongs to none."""

    count: int
    size: int

    @staticmethod
    def of(signature_bytes: int, hash_bytes: int, wanted: int) -> Bands:
        """At least one band, and at most one for each hash."""
        hashes = signature_bytes // hash_bytes
        count = min(max(wanted, 1), hashes)
        return Bands(count, hashes // count * hash_bytes)

    def shared(self, vectors: Array, query: Array) -> Array:
        """bool (n,): the vectors that share a band with the query."""
        used = self.count * self.size
        equal = _equal_parts(vectors[:, :used], query[:used], self.size)
        shared: Array = np.any(equal, axis=1)
        return shared

    def keys(self, vectors: Array) -> Array:
        """uint64 (count, n): equal bands have equal keys; other bands rarely do."""
        keys = np.empty((self.count, len(vectors)), np.uint64)
        word = math.gcd(self.size, 8)
        factors = _mixed(np.arange(1, self.size // word + 1, dtype=np.uint64)) | np.uint64(1)
        for number, line in enumerate(keys):
            band = np.ascontiguousarray(vectors[:, number * self.size : (number + 1) * self.size])
            line[:] = _mixed((band.view(f"<u{word}") * factors).sum(axis=1, dtype=np.uint64))
        return keys


def _mixed(values: Array) -> Array:
    """Numbers that depend on all bits of uint64 `values` (splitmix64)."""
    values = values * _GOLDEN
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = values ^ (values >> np.uint64(31))
    return mixed


def _equal_parts(vectors: Array, query: Array, size: int) -> Array:
    """bool (n, bytes / size): which parts of `size` bytes are those of the query."""
    word = math.gcd(size, 8)
    equal = np.ascontiguousarray(vectors).view(f"<u{word}") == np.ascontiguousarray(query).view(f"<u{word}")
    parts: Array = equal if size == word else equal.reshape(len(equal), -1, size // word).all(axis=2)
    return parts


def _by_band(hash_bytes: int, wanted: int, vectors: Array, query: Array, _metric: MetricType) -> Array:
    """float32 (n,): -1 for the vectors that share a band with the query, inf for others."""
    bands = Bands.of(vectors.shape[1], hash_bytes, wanted)
    shared = [bands.shared(vectors[block], query) for block in blocks(*vectors.shape)]
    return np.where(np.concatenate(shared), np.float32(-1), np.float32(np.inf))


def _by_hash(hash_bytes: int, vectors: Array, query: Array, _metric: MetricType) -> Array:
    """float32 (n,): the negative similarity to the query, inf if no hash is equal."""
    equal = [_equal_parts(vectors[block], query, hash_bytes).sum(axis=1) for block in blocks(*vectors.shape)]
    shares = (np.concatenate(equal) / (vectors.shape[1] // hash_bytes)).astype(np.float32)
    return np.where(shares > 0, -shares, np.float32(np.inf))


def comparison(hash_bytes: int, bands: int, *, by_similarity: bool) -> Exact:
    """Distances are negative similarities, or -1 for rows that share a band; others are no hits."""
    measure: Callable[..., Array] = (
        partial(_by_hash, hash_bytes) if by_similarity else partial(_by_band, hash_bytes, bands)
    )

    def scan(vectors: Array, _prepared: Any, queries: Array, k: int, metric: MetricType, mask: Array | None) -> Nearest:
        return nearest_by(measure, vectors, queries, k, metric, mask, None)

    origin = (COMPARISON, hash_bytes, bands, by_similarity)
    return Exact(no_preparation, scan, partial(nearest_by, measure), partial(ordered_by, measure), origin=origin)


def build(vectors: Array, bands: Bands) -> dict[str, Array]:
    """The arrays of an index over uint8 (n, bytes)."""
    keys = bands.keys(vectors)
    rows = np.argsort(keys, axis=1, kind="stable")
    return {
        "keys": np.take_along_axis(keys, rows, axis=1),
        "rows": rows.astype(np.int32),
        "band_size": np.array([bands.size], np.int64),
    }


def check_arrays(arrays: Mapping[str, Array]) -> None:
    """Raises KeyError and ValueError if the arrays are not those of an index."""
    keys, rows = arrays["keys"], arrays["rows"]
    if keys.ndim != 2 or keys.shape != rows.shape or not len(keys) or arrays["band_size"].shape != (1,):
        raise ValueError("its arrays do not fit one another")


class SharedBands:
    """An index read in place from the arrays of `build`. It names the rows that share a band with a query, those with
    most shared bands first, and no others."""

    is_exact = False
    scan_by_key = None
    scan_band = None
    lists = None

    def __init__(self, arrays: Mapping[str, Array], name: str, payload_bytes: int) -> None:
        self._keys, self._rows = arrays["keys"], arrays["rows"]
        self._bands = Bands(len(self._keys), int(arrays["band_size"][0]))
        self.name = name
        self.row_count = self._rows.shape[1]
        self.heap_bytes = 0
        self.memory_bytes = payload_bytes

    def scan_pays(self, effort: Effort, kept: int) -> bool:
        return kept <= max(MIN_SCANNED, effort.candidates)

    def search(self, queries: Array, k: int, effort: Effort, mask: Array | None) -> Found:
        asked = self._bands.keys(queries)
        starts, ends = (
            np.array([np.searchsorted(*line, side=side) for line in zip(self._keys, asked, strict=True)])
            for side in ("left", "right")
        )
        distances, rows = padded(len(queries), k)
        for number, (start, end) in enumerate(zip(starts.T, ends.T, strict=True)):
            found, counts = self._counted(start, end)
            if mask is not None:
                found, counts = found[mask[found]], counts[mask[found]]
            best = np.argsort(-counts, kind="stable")[:k]
            distances[number, : len(best)], rows[number, : len(best)] = -counts[best], found[best]
        return Found(distances, rows, np.ones(len(queries), np.bool_), effort.candidates, finds_all=True)

    def _counted(self, starts: Array, ends: Array) -> tuple[Array, Array]:
        """The rows in the stretches of all bands, ascending, and in how many of them each is."""
        stretches = [line[start:end] for line, start, end in zip(self._rows, starts, ends, strict=True)]
        if _COUNTED_SHARE * int((ends - starts).sum()) <= self.row_count:
            return np.unique(np.concatenate(stretches), return_counts=True)
        counts = np.zeros(self.row_count, np.int32)
        for stretch in stretches:
            counts[stretch] += 1  # a row is once in a band
        rows = np.flatnonzero(counts)
        return rows, counts[rows]

    def scan(self, queries: Array, k: int, mask: Array | None) -> tuple[Array, Array]:
        raise NotImplementedError
