"""Scores of boost functions, which change the order of the nearest rows of a segment, as in Milvus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from milvine.expr import Predicate, evaluate, referenced_field_ids
from milvine.model.records import record
from milvine.segment.rows import RowSet

Array = np.ndarray[Any, Any]
_EXPONENT_OF_ONE = np.uint64(0x3FF << 52)
_FRACTION = np.uint64((1 << 52) - 1)
_C1, _C2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)


@record
class RandomScore:
    """A number in [0, 1) for each row, always the same for a seed: from its value of `field_id` (int64), or from its
    place in the segment."""

    seed: int
    field_id: int | None

    def scores(self, rows: RowSet, offsets: Array) -> Array:
        """float64 (n,)."""
        if self.field_id is None:
            values = offsets.astype(np.int64) + rows.segment_id
        else:
            values = rows.column(self.field_id).take(offsets).values
        return _as_fraction(_murmur(values.astype(np.int64).view(np.uint64), np.uint64(self.seed % (1 << 64))))


@record
class BoostFunction:
    """`weight`, times the random score if there is one, for the rows that pass the filter."""

    weight: float
    predicate: Predicate | None
    random: RandomScore | None


@record
class Boost:
    """The functions' scores of a row are multiplied or added; the result multiplies the row's own score or is added to
    it. A row that no filter lets pass keeps its score."""

    functions: tuple[BoostFunction, ...]
    adds_scores: bool
    adds_functions: bool

    @property
    def field_ids(self) -> frozenset[int]:
        """The fields whose values it reads."""
        filters = [referenced_field_ids(f.predicate) for f in self.functions if f.predicate is not None]
        seeds = {f.random.field_id for f in self.functions if f.random is not None and f.random.field_id is not None}
        return frozenset(seeds).union(*filters)

    @property
    def details(self) -> Mapping[str, object]:
        return {
            "boosts": [
                {"weight": f.weight, "filtered": f.predicate is not None, "random": f.random is not None}
                for f in self.functions
            ],
            "boostMode": "sum" if self.adds_scores else "multiply",
            "functionMode": "sum" if self.adds_functions else "multiply",
        }

    def rescored(self, rows: RowSet, query: Array, distances: Array, offsets: Array) -> Array:
        scores = np.zeros(len(offsets), np.float32)
        has_score = np.zeros(len(offsets), np.bool_)
        for function in self.functions:
            own = np.full(len(offsets), function.weight, np.float32)
            if function.random is not None:
                own *= function.random.scores(rows, offsets).astype(np.float32)
            passes = np.ones(len(offsets), np.bool_)
            if function.predicate is not None:
                passes = evaluate(function.predicate, rows)[offsets]
            merged = scores + own if self.adds_functions else scores * own
            scores = np.where(passes, np.where(has_score, merged, own), scores)
            has_score |= passes
        boosted = distances - scores if self.adds_scores else distances * scores
        return np.where(has_score, boosted, distances).astype(np.float32)


def _rotated(values: Array, bits: int) -> Array:
    rotated: Array = (values << np.uint64(bits)) | (values >> np.uint64(64 - bits))
    return rotated


def _mixed(values: Array) -> Array:
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    mixed: Array = values ^ (values >> np.uint64(33))
    return mixed


def _murmur(keys: Array, seed: np.uint64) -> Array:
    """uint64 (n,): Milvus's form of MurmurHash3 of the 16 bytes of a key and the seed."""
    second = np.full(len(keys), seed, np.uint64)
    with np.errstate(over="ignore"):
        h1 = keys ^ second ^ (_rotated(keys * _C1, 31) * _C2)
        h1 = (_rotated(h1, 27) + second) * np.uint64(5) + np.uint64(0x52DCE729)
        h2 = second ^ (_rotated(second * _C2, 33) * _C1)
        h2 = (_rotated(h2, 31) + h1) * np.uint64(5) + np.uint64(0x38495AB5)
        h1, h2 = h1 ^ np.uint64(16), h2 ^ np.uint64(16)
        h1 = h1 + h2
        h2 = h2 + h1
        hashed: Array = _mixed(h1) + _mixed(h2)
    return hashed


def _as_fraction(hashes: Array) -> Array:
    """float64 (n,) in [0, 1), from the lower 52 bits."""
    fractions: Array = (_EXPONENT_OF_ONE | (hashes & _FRACTION)).view(np.float64) - 1.0
    return fractions
