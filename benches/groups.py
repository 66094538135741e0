"""Grouping searches and aggregates of queries, as ratios to simpler work in the same run.

    python benches/groups.py [--rows 100000] [--index HNSW] [--aggregated 1000000] [--rounds 15]

Search: 10 groups of 1,000 in one indexed segment, against the plain search for 10 rows. Query: count, sum, avg and max
of a million rows by an integer, a text, and both, 1,000 groups each, against DuckDB over the same columns, if it is
installed; both use one thread. Printed are medians of the CPU times of the rounds, which take turns.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from recall import BUILD, KEY, SEARCH, VECTOR, Rows, mixture, opened

from milvine.index.exact import exact_of
from milvine.index.registry import TYPES
from milvine.model.columns import Column
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType, MetricType
from milvine.segment.aggregation import Aggregate, Aggregation, Operation, aggregate_row_sets
from milvine.segment.group_codes import KnownGroups
from milvine.segment.groups import GroupField
from milvine.segment.plans import QueryPlan, SearchPlan
from milvine.segment.rows import RowSet
from milvine.segment.search import search_row_sets
from milvine.service.reading.grouping import Grouping, grouped
from milvine.service.reading.rank import GroupScorer

GROUP, TEXT, LONG, REAL = 2, 3, 4, 5
GROUPS, WANTED, QUERIES, DIM = 1000, 10, 100, 128
Work = Callable[[], Any]


@dataclass
class Table(Rows):
    """Rows with further columns."""

    others: Mapping[int, Column] = field(default_factory=dict)
    groups: KnownGroups = field(default_factory=KnownGroups)

    def column(self, field_id: int) -> Column:
        return self.others.get(field_id) or super().column(field_id)


def medians(rounds: int, *works: Work) -> list[float]:
    """Milliseconds of CPU time, which other programs of a busy machine do not change much."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for own, work in zip(times, works, strict=True):
            started = time.process_time()
            work()
            own.append(1000 * (time.process_time() - started))
    return [float(np.median(own)) for own in times]


def measure_search(index_type: str, row_count: int, rounds: int, cache: Path) -> None:
    made = mixture(row_count + QUERIES, DIM)
    queries, vectors = made[:QUERIES], made[QUERIES:]
    schema = FieldSchema(VECTOR, "vec", DataType.FLOAT_VECTOR, dim=DIM)
    params = {"index_type": index_type, "metric_type": "L2", **BUILD.get(index_type, {})}
    cache.mkdir(parents=True, exist_ok=True)
    index, built = opened(cache / f"groups-{row_count}-{index_type}.index", vectors, schema, params)
    groups = Column(DataType.INT64, np.random.default_rng(2).integers(0, GROUPS, row_count))
    rows = cast(RowSet, Table(DataType.FLOAT_VECTOR, vectors, index, others={GROUP: groups}))
    asked = SEARCH.get(index_type, {"nprobe": 16})
    plan = SearchPlan(
        field_id=VECTOR,
        queries=queries[:1],
        k=WANTED,
        metric=MetricType.L2,
        exact=exact_of(schema),
        effort=TYPES[index_type].effort(built, asked, WANTED, DataType.FLOAT_VECTOR),
        read_ts=2,
        predicate=None,
        partition_ids=None,
        output_field_ids=(GROUP,),
        primary_field_id=KEY,
    )
    plans = [replace(plan, queries=queries[number : number + 1]) for number in range(QUERIES)]
    grouping = Grouping(
        fields=(GroupField(GROUP),),
        schemas=(FieldSchema(GROUP, "group", DataType.INT64),),
        size=1,
        is_listed=False,
        is_strict_cast=False,
        scorer=GroupScorer.MAX,
    )

    def plain() -> None:
        for one in plans:
            search_row_sets([rows], one)

    def of_groups(size: int) -> None:
        own = replace(grouping, size=size)
        for one in plans:
            grouped(partial(search_row_sets, [rows]), one, own, WANTED)

    base, single, triple = medians(rounds, plain, partial(of_groups, 1), partial(of_groups, 3))
    print(f"{index_type}, {row_count:,} rows: {WANTED} rows {base / QUERIES:.3f} ms")
    for size, taken in ((1, single), (3, triple)):
        print(f"  {WANTED} of {GROUPS:,} groups of up to {size}: {taken / QUERIES:.3f} ms, {taken / base:.2f} times")


def _asked(database: Any, text: str) -> Any:
    return database.execute(text).fetchall()


def measure_query(row_count: int, rounds: int) -> None:
    rng = np.random.default_rng(3)
    numbers = rng.integers(0, GROUPS, row_count)
    texts = pa.array([f"name {number}" for number in range(GROUPS)]).take(pa.array(rng.integers(0, GROUPS, row_count)))
    columns = {
        GROUP: Column(DataType.INT64, numbers),
        TEXT: Column(DataType.VARCHAR, texts),
        LONG: Column(DataType.INT64, rng.integers(-(10**6), 10**6, row_count)),
        REAL: Column(DataType.DOUBLE, rng.random(row_count)),
    }
    vectors = np.zeros((row_count, 1), np.float32)
    rows = cast(RowSet, Table(DataType.FLOAT_VECTOR, vectors, None, others=columns))
    plan = QueryPlan(
        read_ts=2, predicate=None, keys=None, partition_ids=None, limit=None, output_field_ids=(), primary_field_id=KEY
    )
    aggregates = (
        Aggregate(Operation.COUNT, None),
        Aggregate(Operation.SUM, LONG),
        Aggregate(Operation.SUM, REAL),
        Aggregate(Operation.MAX, LONG),
    )
    table = pa.table({"g": numbers, "t": texts, "l": columns[LONG].values, "r": columns[REAL].values})
    try:
        duckdb: Any = importlib.import_module("duckdb")
    except ImportError:
        duckdb = None
    few = pa.array(numbers % 32)
    columns[GROUP + 10] = Column(DataType.INT64, few.to_numpy())
    table = table.append_column("f", few)
    for name, ids, keys in (
        ("an integer", (GROUP,), "g"),
        ("a text", (TEXT,), "t"),
        ("both", (GROUP + 10, TEXT), "f, t"),
    ):
        works: list[Work] = [partial(aggregate_row_sets, [rows], plan, Aggregation(ids, aggregates))]
        if duckdb is not None:
            database = duckdb.connect(config={"threads": 1})
            database.register("rows", table)
            database.execute("create table own as select * from rows")
            text = f"select {keys}, count(*), sum(l), sum(r), max(l) from own group by {keys}"
            works.append(partial(_asked, database, text))
        ours, *theirs = medians(rounds, *works)
        compared = f", {ours / theirs[0]:.2f} times DuckDB's {theirs[0]:.1f} ms" if theirs else ""
        print(f"{row_count:,} rows by {name}: {ours:.1f} ms{compared}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--index", nargs="*", default=["HNSW", "IVF_FLAT"])
    parser.add_argument("--aggregated", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "milvine-recall")
    given = parser.parse_args()
    for index_type in given.index:
        measure_search(index_type, given.rows, given.rounds, given.cache)
    measure_query(given.aggregated, given.rounds)


if __name__ == "__main__":
    main()
