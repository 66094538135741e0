"""Fusion: the hits of several searches in one order, with new scores.

Scores are Milvus's, computed as it computes them: in float32, list by list.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, StrEnum, auto
from math import pi
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from milvine.model.columns import Column
from milvine.model.records import record
from milvine.model.types import MetricType
from milvine.segment.decay import Decay
from milvine.segment.groups import arranged, by_query_and_code
from milvine.segment.topk import key_codes, key_ranks, select_winners

Array = np.ndarray[Any, Any]


@record
class Ranked:
    """The hits of one search, query by query, nearest first. counts: int64 (nq,); scores: float32, Milvus's."""

    counts: Array
    scores: Array


@record
class Fused:
    """The keys in the order of the answer. counts: int64 (nq,); places: int64, of the first hit of each key among the
    hits of all lists, one list after the other."""

    counts: Array
    scores: Array
    places: Array


class GroupScorer(StrEnum):
    """How the scores of a group's hits make the score of the group. MAX: the score of its best hit."""

    MAX = "max"
    SUM = "sum"
    AVG = "avg"


class Combination(Enum):
    """How the scores of a key in several lists make one. RRF: each list gives 1 / (k + rank)."""

    RRF = auto()
    SUM = auto()
    MAX = auto()
    AVG = auto()


class Rescoring(Protocol):
    """Changes scores by the values of a field, or replaces them."""

    @property
    def field_id(self) -> int: ...
    @property
    def name(self) -> str: ...

    def rescored(self, scores: Array, query: Array, column: Column) -> Array:
        """float32 (n,), larger for nearer ones. query: int64 (n,), the query of each score, ascending."""
        ...


@record
class DecayRescoring:
    """Multiplies scores by the factors of a field's values; NULL counts as 0."""

    field_id: int
    decay: Decay

    @property
    def name(self) -> str:
        return "decay"

    def rescored(self, scores: Array, query: Array, column: Column) -> Array:
        factors = self.decay.factors(column.values.astype(np.float64))
        if column.validity is not None:
            factors = np.where(column.validity, factors, np.float32(0))
        rescored: Array = scores * factors
        return rescored


@record
class Ranker:
    """`metrics` and `weights` (none: all 1) are those of the lists. Scores are normalized to [0, 1] on request. Metrics
    of both directions are otherwise turned into one, in which larger is nearer. `rescoring` comes last."""

    combination: Combination
    metrics: tuple[MetricType, ...]
    rrf_k: float = 0.0
    weights: tuple[float, ...] = ()
    normalizes: bool = False
    rescoring: Rescoring | None = None

    @property
    def field_ids(self) -> tuple[int, ...]:
        """The fields whose values it reads."""
        return () if self.rescoring is None else (self.rescoring.field_id,)

    @property
    def name(self) -> str:
        parts = ["normalized"] * self.normalizes + [self.combination.name]
        return " ".join(parts + ([] if self.rescoring is None else [self.rescoring.name])).lower()

    @property
    def larger_is_nearer(self) -> bool:
        is_similarity = [metric.larger_is_nearer for metric in self.metrics]
        turns = self.combination is Combination.RRF or self.normalizes or self.rescoring is not None
        return turns or any(is_similarity)

    def _contribution(self, number: int, ranked: Ranked) -> Array:
        """float32: what each hit of a list adds to the score of its key."""
        if self.combination is Combination.RRF:
            first = np.cumsum(ranked.counts) - ranked.counts
            rank = np.arange(1, len(ranked.scores) + 1) - np.repeat(first, ranked.counts)
            shares: Array = 1.0 / (self.rrf_k + rank)
            return shares.astype(np.float32)
        metric, scores = self.metrics[number], ranked.scores
        if self.normalizes:
            scores = normalized(scores, metric)
        elif self.larger_is_nearer and not metric.larger_is_nearer:
            scores = _turned(scores)
        return scores * np.float32(self.weights[number]) if self.weights else scores

    def fuse(self, lists: Sequence[Ranked], keys: Any, values: Column | None, limit: int | None) -> Fused:
        """The first `limit` keys (None: all) of each query; equal scores in key order.

        keys: int64 or StringArray, of the hits of all lists; values: those that `rescoring` reads.
        """
        nq = len(lists[0].counts)
        query = np.concatenate([np.repeat(np.arange(nq), ranked.counts) for ranked in lists])
        added = np.concatenate([self._contribution(number, ranked) for number, ranked in enumerate(lists)])
        order, is_first = by_query_and_code(query, key_codes(keys))
        group = np.empty(len(order), np.int64)
        group[order] = np.cumsum(is_first) - 1
        places = order[is_first]
        scores = self._combined(added, group, len(places))
        if self.rescoring is not None and values is not None:
            scores = self.rescoring.rescored(scores, query[places], values.take(places))
        distances = -scores if self.larger_is_nearer else scores
        chosen = keys[places] if isinstance(keys, np.ndarray) else keys.take(pa.array(places))
        winners, counts = select_winners(query[places], distances, chosen, nq, limit)
        return Fused(counts, scores[winners], places[winners])

    def _combined(self, added: Array, number: Array, count: int) -> Array:
        """float32 (count,). number: int64 (m,), of the key that each of `added` is for."""
        if self.combination is Combination.MAX:
            largest = np.full(count, -np.inf, np.float32)
            np.maximum.at(largest, number, added)
            return largest
        scores = np.zeros(count, np.float32)
        np.add.at(scores, number, added)
        if self.combination is Combination.AVG:
            scores /= np.bincount(number, minlength=count).astype(np.float32)
        return scores


@record
class GroupRanker:
    """Orders groups by their scores; at most `size` hits of a group count."""

    scorer: GroupScorer
    size: int
    larger_is_nearer: bool

    def group_by_group(self, fused: Fused, codes: Array, keys: Any, offset: int, limit: int) -> Fused:
        """The hits of the groups after the first `offset`, group by group. Of equal groups the larger one comes first,
        and of equally large ones that with the smaller key. codes: int64 (m,), of each hit's group; keys: of each hit.
        """
        nq = len(fused.counts)
        query = np.repeat(np.arange(nq), fused.counts)
        places = arranged(query, codes, nq)
        kept = np.flatnonzero(places.members < self.size)
        first_group = np.cumsum(places.counts) - places.counts
        number = first_group[query[kept]] + places.groups[kept]
        sizes = np.bincount(number)
        firsts = np.empty(len(sizes), np.int64)
        is_best = places.members[kept] == 0
        firsts[number[is_best]] = kept[is_best]
        scores = fused.scores[firsts]
        if self.scorer is not GroupScorer.MAX:
            scores = np.zeros(len(sizes), np.float32)
            np.add.at(scores, number, fused.scores[kept])
        if self.scorer is GroupScorer.AVG:
            scores /= sizes.astype(np.float32)
        key_order = keys if isinstance(keys, np.ndarray) else key_ranks(keys)
        in_query = query[firsts]
        order = np.lexsort((key_order[firsts], -sizes, -scores if self.larger_is_nearer else scores, in_query))
        rank = np.empty(len(sizes), np.int64)
        rank[order] = np.arange(len(sizes)) - first_group[in_query[order]]
        own = rank[number]
        inside = (own >= offset) & (own < offset + limit)
        kept, own = kept[inside], own[inside]
        chosen = kept[np.lexsort((places.members[kept], own, query[kept]))]
        return Fused(np.bincount(query[chosen], minlength=nq), fused.scores[chosen], fused.places[chosen])


def _turned(distances: Array) -> Array:
    """Distances as similarities: 1 for 0, and -1 far away."""
    return 1 - 2 * np.arctan(distances.astype(np.float64)).astype(np.float32) / np.float32(pi)


def normalized(scores: Array, metric: MetricType) -> Array:
    """float32 in [0, 1], larger for nearer ones."""
    if metric is MetricType.COSINE:
        return (1 + scores) * np.float32(0.5)
    if metric is MetricType.BM25:  # never negative
        return 2 * np.arctan(scores.astype(np.float64)).astype(np.float32) / np.float32(pi)
    if metric.larger_is_nearer:
        return np.float32(0.5) + np.arctan(scores.astype(np.float64)).astype(np.float32) / np.float32(pi)
    return _turned(scores)
