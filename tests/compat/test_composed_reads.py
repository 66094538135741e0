"""Random hybrid, grouping, ordered and aggregating reads of random collections, against a slow exact reference."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from composed_reads import (
    Bucket,
    Level,
    Request,
    Row,
    SortKey,
    aggregate,
    buckets,
    fused,
    grouped,
    ranked_groups,
    sorted_by,
    value_at,
)
from hybrid_reference import RRF, Hits, Weighted
from pymilvus import AnnSearchRequest, DataType, MilvusClient
from sample_collections import scores

CASES = int(os.environ.get("MILVINE_READ_CASES", "500"))
CASES_OF_WORLD = 100
ROWS, SEALED, DIM, BITS, QUERIES = 240, 160, 4, 16, 3
METRICS = {"l2": "L2", "cosine": "COSINE", "ip": "IP", "hamming": "HAMMING", "sparse": "IP"}
INDEXES = {"hamming": ["BIN_FLAT", "BIN_IVF_FLAT"], "sparse": ["SPARSE_INVERTED_INDEX"]}
SCALARS = {
    "flag": DataType.BOOL,
    "small": DataType.INT8,
    "long": DataType.INT64,
    "float": DataType.FLOAT,
    "real": DataType.DOUBLE,
    "text": DataType.VARCHAR,
}
VALUES: dict[str, list[Any]] = {
    "flag": [True, False],
    "small": [-128, -1, 0, 5, 127],
    "long": [-(2**63), -7, 0, 9, 2**63 - 1],
    "float": [-1.5, 0.0, 2.25],
    "real": [-1e300, 0.125, 0.5, 1e300],
    "text": ["", "a", "ä", "z", "Z"],
    "doc": [{"a": 1}, {"a": "x"}, {"a": "1"}, {"a": True}, {"a": -2.5}, {"a": None}, {}],
    "dyn": [3, "d", False, None],
}
GROUPED = ("flag", "small", "long", "text")
ORDERED = (*SCALARS, 'doc["a"]', "dyn")
SUMMED = ("small", "float", "_score")
COMPARED = ("small", "long", "float", "real", "text", "_score")
FILTERS: dict[str, Callable[[Row], bool]] = {
    "": lambda row: True,
    "small >= 0": lambda row: row["small"] is not None and row["small"] >= 0,
    'text in ["a", "z"]': lambda row: row["text"] in ("a", "z"),
    "number % 3 == 1": lambda row: row["number"] % 3 == 1,
    "number < 6": lambda row: row["number"] < 6,
    "number < 0": lambda row: False,
}


class World:
    """A random schema, and rows with many equal values and NULLs: sealed, growing, deleted, written twice."""

    def __init__(self, client: MilvusClient, seed: int) -> None:
        self.client, self.name = client, f"reads_{uuid.uuid4().hex[:8]}"
        self.chance = chance = random.Random(seed)
        self.kinds = sorted(chance.sample(sorted(METRICS), chance.choice([1, 2, 3])))
        self.has_text_keys = chance.random() < 0.4
        self.nullable = {name for name in SCALARS if chance.random() < 0.6}
        schema = client.create_schema(enable_dynamic_field=True)
        key_type = DataType.VARCHAR if self.has_text_keys else DataType.INT64
        schema.add_field("id", key_type, is_primary=True, max_length=20)
        schema.add_field("number", DataType.INT32)
        for name, data_type in SCALARS.items():
            schema.add_field(name, data_type, max_length=9, nullable=name in self.nullable)
        schema.add_field("doc", DataType.JSON, nullable=True)
        indexes = client.prepare_index_params()
        for kind in self.kinds:
            data_type = {"hamming": DataType.BINARY_VECTOR, "sparse": DataType.SPARSE_FLOAT_VECTOR}.get(kind)
            dim = {"hamming": {"dim": BITS}, "sparse": {}}.get(kind, {"dim": DIM})
            schema.add_field(kind, data_type or DataType.FLOAT_VECTOR, nullable=chance.random() < 0.3, **dim)
            index_type = chance.choice(INDEXES.get(kind, ["FLAT", "IVF_FLAT"]))
            indexes.add_index(kind, index_type=index_type, metric_type=METRICS[kind], params={"nlist": 4})
        client.create_collection(self.name, schema=schema, index_params=indexes)
        self.rows: dict[Any, Row] = {}
        made = [self._row(number) for number in range(ROWS)]
        self._write(made[:SEALED])
        client.flush(self.name)
        self._write(made[SEALED:])
        self._write([self._row(number) for number in chance.sample(range(ROWS), 20)], client.upsert)
        gone = [made[number]["id"] for number in chance.sample(range(ROWS), 20)]
        client.delete(self.name, ids=gone)
        for key in gone:
            del self.rows[key]

    def _row(self, number: int) -> Row:
        chance = self.chance
        row: Row = {"id": f"k{number * 7 % 1000:03}" if self.has_text_keys else number * 7 % 1000, "number": number}
        for name in SCALARS:
            row[name] = None if name in self.nullable and chance.random() < 0.2 else chance.choice(VALUES[name])
        row["doc"] = chance.choice([None, *VALUES["doc"]])
        row["dyn"] = chance.choice(VALUES["dyn"])
        return row | {kind: self.vector(kind) for kind in self.kinds}

    def vector(self, kind: str) -> Any:
        chance = self.chance
        if kind == "hamming":
            return bytes(chance.choice([0, 3, 7, 255]) for _ in range(BITS // 8))
        if kind == "sparse":
            return {place: float(chance.choice([1, 2])) for place in chance.sample(range(9), 3)}
        return [float(chance.randrange(1, 4) * chance.choice([1, -1])) for _ in range(DIM)]

    def _write(self, rows: list[Row], write: Any = None) -> None:
        (write or self.client.insert)(self.name, rows)
        self.rows.update((row["id"], row) for row in rows)

    @cached_property
    def searches(self) -> list[tuple[str, Any, Hits]]:
        """Fields, query vectors and all their hits, in the order that a plain search gives them."""
        return [(kind, *self._whole(kind)) for kind in self.kinds for _ in range(QUERIES)]

    def _whole(self, kind: str) -> tuple[Any, Hits]:
        query = self.vector(kind)
        found = self.client.search(self.name, [query], anns_field=kind, limit=1000, search_params=EFFORT)[0]
        hits = [(hit["id"], np.float32(hit["distance"])) for hit in found]
        wanted = {key: _score(kind, query, row[kind]) for key, row in self.rows.items() if row[kind] is not None}
        if kind == "sparse":
            wanted = {key: score for key, score in wanted.items() if score}
        assert {key for key, _ in hits} == wanted.keys()
        np.testing.assert_allclose([score for _, score in hits], [wanted[key] for key, _ in hits], atol=1e-5)
        sign = 1 if METRICS[kind] in ("L2", "HAMMING") else -1
        assert hits == sorted(hits, key=lambda hit: (sign * hit[1], hit[0]))
        return query, hits

    def filtered(self, hits: Hits, text: str) -> Hits:
        return [hit for hit in hits if FILTERS[text](self.rows[hit[0]])]

    def search(self, kind: str, query: Any, **options: Any) -> Any:
        return self.client.search(self.name, [query], anns_field=kind, search_params=EFFORT, **options)


EFFORT = {"params": {"nprobe": 4}}


def _score(kind: str, query: Any, vector: Any) -> float:
    if kind == "sparse":
        return float(sum(value * vector.get(place, 0) for place, value in query.items()))
    if kind == "hamming":
        return float(sum((a ^ b).bit_count() for a, b in zip(query, vector, strict=True)))
    return float(scores(np.array([query], np.float32), np.array([vector], np.float32), METRICS[kind])[0, 0])


def _same_hits(found: Any, wanted: Hits, world: World, name: str) -> None:
    assert [hit["id"] for hit in found] == [key for key, _ in wanted]
    np.testing.assert_allclose([hit["distance"] for hit in found], [score for _, score in wanted], rtol=1e-5)
    assert [hit["entity"][name] for hit in found] == [world.rows[key][name] for key, _ in wanted]


def _close(row: Row) -> Row:
    """What equals the row, up to the last digits of floats."""
    return {name: pytest.approx(value, rel=1e-5) if isinstance(value, float) else value for name, value in row.items()}


def _sort_keys(chance: random.Random, names: tuple[str, ...]) -> list[SortKey]:
    chosen = chance.sample(names, chance.choice([1, 1, 2, 3]))
    return [SortKey(name, chance.random() < 0.5, chance.choice([None, None, True, False])) for name in chosen]


def _window(chance: random.Random) -> tuple[int, int]:
    return chance.choice([1, 4, 15, 300]), chance.choice([0, 0, 3])


def a_search(world: World, chance: random.Random) -> None:
    """Grouped, ordered or both."""
    kind, query, hits = chance.choice(world.searches)
    (limit, offset), text = _window(chance), chance.choice(sorted(FILTERS))
    found = world.filtered(hits, text)
    options: dict[str, Any] = {}
    names: list[str] = []
    size = 1
    if kind != "hamming" and chance.random() < 0.7:
        names = [chance.choice([*GROUPED, 'doc["a"]', "dyn"])]
        if chance.random() < 0.2:
            names = chance.sample(GROUPED, 2)
        size = chance.choice([1, 2, 10])
        options = {"group_by_field": names[0]} if len(names) == 1 else {"group_by_fields": names}
        options["group_size"] = size
    groups = grouped(found, world.rows, names, size) if names else [[hit] for hit in found]
    groups = groups[: offset + limit]
    if len(names) < 2 and chance.random() < 0.7:
        keys = _sort_keys(chance, ORDERED)
        options["order_by_fields"] = ",".join(key.spec for key in keys)
        groups = sorted_by(groups, keys, lambda group, name: value_at(world.rows[group[0][0]], name))
    wanted = [hit for group in groups[offset : offset + limit] for hit in group]
    name = chance.choice(sorted(SCALARS))
    answer = world.search(kind, query, filter=text, limit=limit, offset=offset, output_fields=[name], **options)
    _same_hits(answer[0], wanted, world, name)


def a_hybrid_search(world: World, chance: random.Random) -> None:
    parts = chance.choices(world.searches, k=chance.choice([1, 2, 3]))
    texts = [chance.choice(sorted(FILTERS)) for _ in parts]
    limits = [chance.choice([1, 5, 40]) for _ in parts]
    (limit, offset), name = _window(chance), chance.choice(sorted(SCALARS))
    weights = [round(chance.random(), 2) for _ in parts]
    ranker: Any = chance.choice([RRF(), RRF(0.5), Weighted(weights), Weighted(weights, norm_score=True)])
    options: dict[str, Any] = {}
    group, size, scorer = "", 1, "max"
    if chance.random() < 0.5 and all(kind != "hamming" for kind, _, _ in parts):
        group, size = chance.choice(GROUPED), chance.choice([1, 3])
        scorer = chance.choice(["max", "sum", "avg"])
        options = {"group_by_field": group, "group_size": size, "rank_group_scorer": scorer}
    requests, lists = [], []
    for (kind, query, hits), text, count in zip(parts, texts, limits, strict=True):
        requests.append(AnnSearchRequest([query], kind, EFFORT, count, expr=text or None))
        found = world.filtered(hits, text)
        if group:
            inside = {hit[0] for one in grouped(found, world.rows, [group], size)[:count] for hit in one}
            lists.append([hit for hit in found if hit[0] in inside])
        else:
            lists.append(found[:count])
    wanted, is_distance = fused(lists, [METRICS[kind] for kind, _, _ in parts], ranker)
    if group:
        wanted = ranked_groups(grouped(wanted, world.rows, [group], size), scorer, is_distance, offset, limit)
    else:
        wanted = wanted[offset : offset + limit]
    found = world.client.hybrid_search(
        world.name, requests, ranker.request(), limit=limit, offset=offset, output_fields=[name], **options
    )
    _same_hits(found[0], wanted, world, name)


def _level(chance: random.Random, names: list[str]) -> Level:
    size = chance.choice([1, 2, 5])
    metrics: dict[str, tuple[str, str]] = {}
    for alias in ("m", "n"):
        operation = chance.choice(["count", "sum", "avg", "min", "max"])
        fields = {"count": ("*", "text", "_score"), "sum": SUMMED, "avg": SUMMED}.get(operation, COMPARED)
        metrics[alias] = operation, chance.choice(fields)
    orders = chance.sample(["_count", "_key", "m", "n"], chance.choice([0, 1, 2]))
    hit_names = chance.sample((*SCALARS, "_score"), chance.choice([0, 1, 2]))
    return Level(
        names=tuple(names),
        size=size,
        search_size=size + chance.choice([0, 0, 3]),
        metrics=metrics,
        order=tuple((key, chance.random() < 0.5) for key in orders),
        hit_count=chance.choice([0, 1, 3]),
        hit_order=tuple(SortKey(name, chance.random() < 0.5, False) for name in hit_names),
    )


def an_aggregating_search(world: World, chance: random.Random) -> None:
    kind, query, hits = chance.choice(world.searches)
    text, name = chance.choice(sorted(FILTERS)), chance.choice(sorted(SCALARS))
    names = chance.sample(GROUPED, chance.choice([1, 2, 3]))
    cut = chance.randrange(len(names))
    levels = [_level(chance, part) for part in (names[:cut], names[cut:]) if part]
    found = world.search(kind, query, filter=text, output_fields=[name], search_aggregation=Request(levels))
    wanted = buckets(world.filtered(hits, text), world.rows, levels)
    _same_buckets(found.agg_buckets[0] if found.agg_buckets else [], wanted, world, name)


def _same_buckets(found: Any, wanted: list[Bucket], world: World, name: str) -> None:
    assert [tuple(part["value"] for part in one.key) for one in found] == [bucket.key for bucket in wanted]
    for one, bucket in zip(found, wanted, strict=True):
        assert one.count == len(bucket.hits)
        known = {alias: value for alias, value in bucket.metrics.items() if value is not None}
        assert one.metrics == _close(known)
        assert [hit.pk for hit in one.hits] == [key for key, _ in bucket.top]
        assert [hit.score for hit in one.hits] == [score for _, score in bucket.top]
        assert [hit.fields.get(name) for hit in one.hits] == [world.rows[key][name] for key, _ in bucket.top]
        _same_buckets(one.sub_groups, bucket.sub, world, name)


def _passing(world: World, text: str) -> list[Row]:
    """In the order of the key."""
    return [row for _, row in sorted(world.rows.items()) if FILTERS[text](row)]


def an_ordered_query(world: World, chance: random.Random) -> None:
    (limit, offset), text = _window(chance), chance.choice(sorted(FILTERS))
    keys = _sort_keys(chance, tuple(SCALARS))
    wanted = sorted_by(_passing(world, text), keys, value_at)[offset : offset + limit]
    found = world.client.query(
        world.name, filter=text, limit=limit, offset=offset, order_by_fields=[key.spec for key in keys]
    )
    assert [row["id"] for row in found] == [row["id"] for row in wanted]


def a_query_of_groups(world: World, chance: random.Random) -> None:
    text, groups = chance.choice(sorted(FILTERS)), chance.sample(["small", "text", "long"], chance.choice([0, 1, 2]))
    names = ["count(*)", *groups]
    for _ in range(2):
        operation = chance.choice(["count", "sum", "avg", "min", "max"])
        fields = {"count": ("text", "doc"), "sum": SUMMED[:-1], "avg": SUMMED[:-1]}.get(operation, COMPARED[:-1])
        names.append(f"{operation}({chance.choice(fields)})")
    names = list(dict.fromkeys(names))
    found: dict[tuple[Any, ...], list[Row]] = {} if groups else {(): []}
    for row in _passing(world, text):
        found.setdefault(tuple(row[name] for name in groups), []).append(row)
    order = [SortKey(str(place)) for place in range(len(groups))]
    wanted = [
        {name: key[groups.index(name)] if name in groups else _of_rows(name, found[key]) for name in names}
        for key in sorted_by(found, order, lambda key, place: key[int(place)])
    ]
    answer = world.client.query(world.name, filter=text, output_fields=names, group_by_fields=groups)
    assert [dict(row) for row in answer] == list(map(_close, wanted))


def _of_rows(name: str, rows: list[Row]) -> Any:
    operation, _, field = name.rstrip(")").partition("(")
    return aggregate(operation, [1 if field == "*" else row[field] for row in rows])


READS = [a_search, a_search, a_hybrid_search, an_aggregating_search, an_ordered_query, a_query_of_groups]


@contextmanager
def _world(client: MilvusClient, seed: int) -> Iterator[World]:
    world = World(client, seed)
    try:
        yield world
    finally:
        client.drop_collection(world.name)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(-(-CASES // CASES_OF_WORLD)))
def test_random_reads_agree_with_the_slow_reference(_shared_client: MilvusClient, seed: int) -> None:
    with _world(_shared_client, seed) as world:
        for number in range(min(CASES_OF_WORLD, CASES - seed * CASES_OF_WORLD)):
            chance = random.Random(f"{seed} {number}")
            read = chance.choice(READS)
            try:
                read(world, chance)
            except Exception as error:
                error.add_note(f"case {number} of world {seed}: {read.__name__}")
                raise
