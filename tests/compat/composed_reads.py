"""Hybrid, grouping, ordered and aggregating reads done slowly in Python, over the full lists of plain searches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeVar

import numpy as np
from hybrid_reference import RRF, Hits, Weighted
from pymilvus import SearchAggregation, TopHits

Row = dict[str, Any]
Hit = tuple[Any, np.float32]
Rows = dict[Any, Row]
Item = TypeVar("Item")
MISSING = object()


def value_at(row: Row, name: str) -> Any:
    """The value of a field, of `doc["a"]` or of a key of the dynamic field."""
    return (row["doc"] or {}).get("a") if name == 'doc["a"]' else row.get(name)


def comparable(value: Any) -> tuple[int, Any]:
    """JSON values of different kinds are ordered by the first characters of their texts."""
    if isinstance(value, str):
        return 0, value.encode()
    return (3, value) if isinstance(value, bool) else (1, value)


@dataclass(frozen=True)
class SortKey:
    name: str
    descends: bool = False
    nulls_first: bool | None = None
    """None: where values descend."""

    @property
    def spec(self) -> str:
        places = {None: "", True: ":nulls_first", False: ":nulls_last"}
        return f"{self.name}:{'desc' if self.descends else 'asc'}{places[self.nulls_first]}"


def sorted_by(items: Iterable[Item], keys: Sequence[SortKey], value: Callable[[Item, str], Any]) -> list[Item]:
    """Equal items stay as they are."""
    found = list(items)
    for key in reversed(keys):
        absent = [item for item in found if value(item, key.name) is None]
        present = [item for item in found if value(item, key.name) is not None]
        present.sort(key=lambda item: comparable(value(item, key.name)), reverse=key.descends)
        first = key.descends if key.nulls_first is None else key.nulls_first
        found = absent + present if first else present + absent
    return found


def grouped(hits: Iterable[Hit], rows: Rows, names: Sequence[str], size: int) -> list[list[Hit]]:
    """The best `size` hits of each group, the nearest group first."""
    groups: dict[Any, list[Hit]] = {}
    for hit in hits:
        groups.setdefault(tuple(_group(rows[hit[0]], name) for name in names), []).append(hit)
    return [members[:size] for members in groups.values()]


def _group(row: Row, name: str) -> Any:
    """Values in JSON are grouped by their JSON texts, in which null is a value."""
    document, key = (row["doc"] or {}, "a") if name == 'doc["a"]' else (row, name)
    is_json = name in ('doc["a"]', "dyn")
    return json.dumps(document[key]) if is_json and key in document else document.get(key)


def ranked_groups(groups: list[list[Hit]], scorer: str, is_distance: bool, offset: int, limit: int) -> list[Hit]:
    def score(group: list[Hit]) -> float:
        total = np.float32(0)
        for _, own in group:
            total += np.float32(own)
        return float({"max": group[0][1], "sum": total, "avg": total / np.float32(len(group))}[scorer])

    best = sorted(groups, key=lambda group: (score(group) * (1 if is_distance else -1), -len(group), group[0][0]))
    return [hit for group in best[offset : offset + limit] for hit in group]


def fused(lists: list[Hits], metrics: list[str], ranker: RRF | Weighted) -> tuple[Hits, bool]:
    """The hits, and whether smaller scores are better."""
    is_distance = isinstance(ranker, Weighted) and not ranker.norm_score and not {"IP", "COSINE"} & set(metrics)
    return ranker.fuse(lists, metrics), is_distance


def aggregate(operation: str, values: list[Any]) -> Any:
    found = [value for value in values if value is not None]
    if operation == "count":
        return len(found)
    if not found:
        return None
    if operation in ("sum", "avg"):
        return sum(found) / (len(found) if operation == "avg" else 1)
    return {"min": min, "max": max}[operation](found, key=comparable)


@dataclass(frozen=True)
class Level:
    """One level of an aggregation. `metrics`: operation and field by alias; `order`: key and whether it descends."""

    names: tuple[str, ...]
    size: int
    search_size: int
    metrics: dict[str, tuple[str, str]] = field(default_factory=dict)
    order: tuple[tuple[str, bool], ...] = ()
    hit_count: int = 0
    hit_order: tuple[SortKey, ...] = ()


class Request(SearchAggregation):  # type: ignore[misc]
    """With `search_size`, which the client lacks."""

    def __init__(self, levels: Sequence[Level]) -> None:
        level = levels[0]
        self.search_size = level.search_size

        def directed(pairs: Iterable[tuple[str, bool]]) -> list[dict[str, str]]:
            return [{key: "desc" if descends else "asc"} for key, descends in pairs]

        super().__init__(
            fields=list(level.names),
            size=level.size,
            metrics={alias: {operation: name} for alias, (operation, name) in level.metrics.items()},
            order=directed(level.order),
            top_hits=TopHits(level.hit_count, directed((k.name, k.descends) for k in level.hit_order))
            if level.hit_count
            else None,
            sub_aggregation=Request(levels[1:]) if len(levels) > 1 else None,
        )

    def to_proto(self) -> Any:
        spec = super().to_proto()
        spec.search_size = self.search_size
        return spec


@dataclass
class Bucket:
    key: tuple[Any, ...]
    hits: list[Hit]
    metrics: dict[str, Any]
    top: list[Hit]
    sub: list[Bucket]


def buckets(hits: list[Hit], rows: Rows, levels: Sequence[Level]) -> list[Bucket]:
    """hits: all, nearest first."""
    names = [name for level in levels for name in level.names]
    groups = grouped(hits, rows, names, max(1, *(level.hit_count for level in levels)))
    chosen = {hit[0] for group in groups[: prod(level.search_size for level in levels)] for hit in group}
    return _level([hit for hit in hits if hit[0] in chosen], rows, levels)


def _level(hits: list[Hit], rows: Rows, levels: Sequence[Level]) -> list[Bucket]:
    if not levels:
        return []
    level = levels[0]

    def value(hit: Hit, name: str) -> Any:
        if name == "*":
            return 1
        return float(hit[1]) if name == "_score" else rows[hit[0]][name]

    made = []
    for members in grouped(hits, rows, level.names, len(hits)):
        metrics = {
            alias: aggregate(operation, [value(hit, name) for hit in members])
            for alias, (operation, name) in level.metrics.items()
        }
        key = tuple(rows[members[0][0]][name] for name in level.names)
        made.append(Bucket(key, members, metrics, [], []))

    def of_bucket(bucket: Bucket, name: str) -> Any:
        if name == "_count":
            return len(bucket.hits)
        return bucket.key[int(name)] if name.isdigit() else bucket.metrics[name]

    keys: list[SortKey] = []
    for name, descends in level.order:
        own = [str(place) for place in range(len(level.names))] if name == "_key" else [name]
        keys += [SortKey(one, descends, not descends) for one in own]
    kept = sorted_by(made, keys, of_bucket)[: level.size]
    for bucket in kept:
        if level.hit_count:
            bucket.top = sorted_by(bucket.hits, level.hit_order, value)[: level.hit_count]
        bucket.sub = _level(bucket.hits, rows, levels[1:])
    return kept
