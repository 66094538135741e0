"""Hybrid search done slowly: each search alone, then the fusion hit by hit, in float32 as Milvus does it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pymilvus import AnnSearchRequest, MilvusClient, RRFRanker, WeightedRanker

LARGER_IS_NEARER = ("IP", "COSINE")
Hits = list[tuple[Any, np.float32]]


@dataclass
class Part:
    """One search of a hybrid search."""

    anns_field: str
    metric: str
    data: list[Any]
    limit: int
    filter: str = ""
    params: dict[str, Any] = field(default_factory=dict)

    def request(self) -> AnnSearchRequest:
        param = {"metric_type": self.metric, "params": self.params}
        return AnnSearchRequest(self.data, self.anns_field, param, self.limit, expr=self.filter or None)

    def hits(self, client: MilvusClient, name: str, partitions: Sequence[str] | None) -> list[Hits]:
        found = client.search(
            name,
            self.data,
            anns_field=self.anns_field,
            filter=self.filter,
            limit=self.limit,
            search_params={"metric_type": self.metric, "params": self.params},
            partition_names=partitions,
        )
        return [[(hit["id"], np.float32(hit["distance"])) for hit in hits] for hits in found]


@dataclass
class RRF:
    k: float = 60

    def request(self) -> RRFRanker:
        return RRFRanker(self.k)

    def fuse(self, lists: list[Hits], metrics: list[str]) -> Hits:
        scores: dict[Any, np.float32] = {}
        for hits in lists:
            for rank, (key, _) in enumerate(hits, 1):
                scores[key] = scores.get(key, np.float32(0)) + np.float32(1 / (self.k + rank))
        return sorted(scores.items(), key=lambda hit: (-hit[1], hit[0]))


def turned(distance: np.float32) -> np.float32:
    return 1 - 2 * np.float32(math.atan(float(distance))) / np.float32(math.pi)


def _normalized(score: np.float32, metric: str) -> np.float32:
    if metric == "COSINE":
        return (1 + score) * np.float32(0.5)
    if metric == "IP":
        return np.float32(0.5) + np.float32(math.atan(float(score))) / np.float32(math.pi)
    return turned(score)


@dataclass
class Weighted:
    weights: list[float]
    norm_score: bool = False

    def request(self) -> WeightedRanker:
        return WeightedRanker(*self.weights, norm_score=self.norm_score)

    def fuse(self, lists: list[Hits], metrics: list[str]) -> Hits:
        is_similarity = [metric in LARGER_IS_NEARER for metric in metrics]
        descending = self.norm_score or any(is_similarity)
        scores: dict[Any, np.float32] = {}
        for hits, metric, weight in zip(lists, metrics, self.weights, strict=True):
            for key, found in hits:
                score = found
                if self.norm_score:
                    score = _normalized(found, metric)
                elif descending and metric not in LARGER_IS_NEARER:
                    score = turned(found)
                scores[key] = scores.get(key, np.float32(0)) + np.float32(weight) * score
        return sorted(scores.items(), key=lambda hit: (-hit[1] if descending else hit[1], hit[0]))


def hybrid(
    client: MilvusClient,
    name: str,
    parts: list[Part],
    ranker: RRF | Weighted,
    limit: int,
    offset: int = 0,
    partitions: Sequence[str] | None = None,
) -> list[Hits]:
    found = [part.hits(client, name, partitions) for part in parts]
    metrics = [part.metric for part in parts]
    return [ranker.fuse(list(lists), metrics)[offset : offset + limit] for lists in zip(*found, strict=True)]
