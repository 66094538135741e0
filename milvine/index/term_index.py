"""From the terms of texts to the rows and the places where they occur, for filters over words.

The distinct terms of a column are kept sorted, each with its occurrences in order of rows and positions. So a term is
a binary search, and a phrase is an intersection of sorted places.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from milvine.analysis.terms import Terms
from milvine.index.edit_distance import within_distance
from milvine.index.postings import Array, Encoded
from milvine.model.records import record

_LONGEST_GAP = 1 << 30
"""No text has so many tokens."""
_LISTED_SHARE = 0.1
"""For more occurrences than this fraction of the rows, a table of all rows is faster than searches."""


@record
class TermIndex:
    """terms: StringArray (m,), ascending, each once. starts: int64 (m + 1,) into rows and positions, both int32: the
    occurrences of each term, by row and then by position in the text.

    All answers are bool (row_count,). A query is a StringArray of terms, each of which counts as often as it is there.
    """

    row_count: int
    terms: Any
    starts: Array
    rows: Array
    positions: Array

    @property
    def bytes_used(self) -> int:
        return int(self.terms.nbytes + self.starts.nbytes + self.rows.nbytes + self.positions.nbytes)

    def with_terms(self, wanted: Any, at_least: int = 1) -> Array:
        """Rows with at least so many of the terms."""
        if at_least > len(wanted):
            return np.zeros(self.row_count, np.bool_)
        codes = self._codes(wanted)
        if at_least == 1:
            return self._with_any(codes[codes >= 0])
        found, times = np.unique_counts(codes[codes >= 0])
        counts = np.zeros(self.row_count, np.int32)
        for code, weight in zip(found, times, strict=True):
            rows = self.rows[self.starts[code] : self.starts[code + 1]]
            counts[rows[_is_first(rows)]] += weight
        has_enough: Array = counts >= at_least
        return has_enough

    def with_similar(self, wanted: Any, distance: int) -> Array:
        """Rows with a term within so many edits of any of the terms."""
        similar = [within_distance(self.terms, term, distance) for term in wanted.unique().to_pylist()]
        return self._with_any(np.unique(np.concatenate([np.zeros(0, np.int64), *similar])))

    def with_phrase(self, wanted: Any, offsets: Array, slop: int) -> Array:
        """Rows with all of the terms, as far from one another as in the phrase. `offsets`: int32, the position of
        each term in the phrase. `slop`: by how much the shifts of the terms may differ.
        """
        if len(wanted) <= 1:
            return self.with_terms(wanted)
        codes = self._codes(wanted)
        mask = np.zeros(self.row_count, np.bool_)
        if (codes < 0).any():
            return mask
        shifts = int(offsets.max()) - offsets.astype(np.int64)
        slop = min(slop, _LONGEST_GAP)
        distinct = np.unique(codes)
        rarest = distinct[np.argsort(self.starts[distinct + 1] - self.starts[distinct], kind="stable")]
        candidates = np.zeros(0, np.int32)
        for number, code in enumerate(rarest):
            rows = self.rows[self.starts[code] : self.starts[code + 1]]
            rows = rows[_is_first(rows)]
            candidates = rows if number == 0 else candidates[_among(candidates, rows)]
            if not len(candidates):
                return mask
        numbers = None
        if (self.starts[codes + 1] - self.starts[codes]).sum() > self.row_count * _LISTED_SHARE:
            numbers = np.full(self.row_count, -1, np.int32)
            numbers[candidates] = np.arange(len(candidates), dtype=np.int32)
        places = [self._places(code, shift, candidates, numbers) for code, shift in zip(codes, shifts, strict=True)]
        mask[candidates[_within_slop(places, slop, len(candidates))]] = True
        return mask

    def _places(self, code: int, shift: int, candidates: Array, numbers_of: Array | None) -> Array:
        """int64, ascending: the shifted positions of a term in the candidates, as numbers that grow with the row.

        `numbers_of`: of each row its place among the candidates, or -1; None to search for it.
        """
        begin, end = int(self.starts[code]), int(self.starts[code + 1])
        rows = self.rows[begin:end]
        if numbers_of is None:
            numbers = np.minimum(np.searchsorted(candidates, rows), len(candidates) - 1)
            is_there = candidates[numbers] == rows
        else:
            numbers = numbers_of[rows]
            is_there = numbers >= 0
        positions = self.positions[begin:end][is_there].astype(np.int64) + shift
        places: Array = (numbers[is_there].astype(np.int64) << 32) + positions
        return places

    def _codes(self, wanted: Any) -> Array:
        """The place of each term among the terms, or -1."""
        if not len(self.terms):
            return np.full(len(wanted), -1, np.int64)
        places = pc.search_sorted(self.terms, wanted).to_numpy().astype(np.int64)
        inside = np.minimum(places, len(self.terms) - 1)
        same = pc.equal(self.terms.take(pa.array(inside)), wanted).to_numpy(zero_copy_only=False)
        codes: Array = np.where(same, inside, -1)
        return codes

    def _with_any(self, codes: Array) -> Array:
        mask = np.zeros(self.row_count, np.bool_)
        begins = self.starts[codes]
        counts = self.starts[codes + 1] - begins
        steps = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        mask[self.rows[np.repeat(begins, counts) + steps]] = True
        return mask

    def encode(self, prefix: str, into: Encoded) -> None:
        into[f"{prefix}.terms"], into[f"{prefix}.starts"] = self.terms, self.starts
        into[f"{prefix}.rows"], into[f"{prefix}.positions"] = self.rows, self.positions

    @classmethod
    def decode(cls, prefix: str, arrays: Encoded, row_count: int) -> TermIndex:
        parts = (arrays[f"{prefix}.{part}"] for part in ("terms", "starts", "rows", "positions"))
        return cls(row_count, *parts)


def index_terms(blocks: Iterable[Terms]) -> TermIndex:
    """Indexes the terms of a column's rows, given in order."""
    encoded, rows, positions, row_count = [], [], [], 0
    for block in blocks:
        encoded.append(block.tokens.dictionary_encode())
        counts = np.diff(block.offsets)
        rows.append(np.repeat(np.arange(row_count, row_count + len(counts), dtype=np.int32), counts))
        positions.append(block.positions)
        row_count += len(counts)
    if not sum(map(len, rows)):
        empty = np.zeros(0, np.int32)
        return TermIndex(row_count, pa.array([], pa.string()), np.zeros(1, np.int64), empty, empty)
    joined = pa.chunked_array(encoded).unify_dictionaries()
    dictionary = joined.chunk(0).dictionary
    by_text = pc.array_sort_indices(dictionary)
    places_of = np.empty(len(dictionary), np.int32)
    places_of[by_text.to_numpy()] = np.arange(len(dictionary), dtype=np.int32)
    codes = np.concatenate([places_of[chunk.indices.to_numpy()] for chunk in joined.chunks])
    order = np.argsort(codes, kind="stable")
    starts = np.concatenate(([0], np.cumsum(np.bincount(codes, minlength=len(dictionary)))))
    return TermIndex(
        row_count,
        dictionary.take(by_text),
        starts.astype(np.int64),
        np.concatenate(rows)[order],
        np.concatenate(positions)[order].astype(np.int32),
    )


def _is_first(rows: Array) -> Array:
    is_first = np.ones(len(rows), np.bool_)
    np.not_equal(rows[1:], rows[:-1], out=is_first[1:])
    return is_first


def _among(values: Array, others: Array) -> Array:
    """bool: which of the values are among the others; both are ascending."""
    places = np.minimum(np.searchsorted(others, values), len(others) - 1)
    same: Array = others[places] == values
    return same


def _within_slop(places: list[Array], slop: int, count: int) -> Array:
    """bool (count,): rows where an interval of `slop` holds a place of each list. Places have the row in their upper
    bits, and ascend."""
    found = np.zeros(count, np.bool_)
    lists = sorted(places, key=len)
    # The interval begins with a place of some list, near a place of the shortest one.
    starts = lists[0]
    if slop:
        starts = np.concatenate([lists[0], *(_followed(other, lists[0], slop) for other in lists[1:])])
    for other in lists[1:]:
        starts = _followed(starts, other, slop)
    found[starts >> 32] = True
    return found


def _followed(places: Array, others: Array, slop: int) -> Array:
    """The places with one of the others, which ascend, at most `slop` after them."""
    following = others[np.minimum(np.searchsorted(others, places), len(others) - 1)]
    kept: Array = places[(following >= places) & (following - places <= slop)]
    return kept
