"""Recall and time of filtered searches in one indexed segment, by the share of rows that is kept.

    python benches/recall.py [--vectors FILE.npy] [--rows 100000] [--index HNSW IVF_FLAT ...] [--metric L2]

The first 1,000 vectors are queries. "spread": the kept rows are anywhere; "region": they are the nearest to one point,
so that most queries lie outside. Without a file the vectors are a seeded mixture. Built indexes are kept in --cache.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from faiss import omp_set_num_threads as threads

from milvine.index.base import VectorIndex
from milvine.index.registry import TYPES
from milvine.index.scan import scan
from milvine.index.vector_params import resolve
from milvine.model.columns import Column
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType, MetricType
from milvine.segment.deletes import DeleteMarks
from milvine.segment.keys import KeyIndex
from milvine.segment.plans import SearchPlan
from milvine.segment.rows import RowSet
from milvine.segment.search import search_one
from milvine.storage.files import seal_written
from milvine.storage.segment_files import FORMAT_VERSION, INDEX_KIND, open_index_file

Array = np.ndarray[Any, Any]
KEY, VECTOR = 0, 1
"""Field ids."""
K = 10
QUERIES = 1000
SHARES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 0.9)
BUILD = {
    "HNSW": {"M": "16", "efConstruction": "200"},
    "HNSW_PQ": {"M": "16", "efConstruction": "200", "refine": "true"},
    "HNSW_PRQ": {"M": "16", "efConstruction": "200", "m": "32", "nbits": "4", "refine": "true"},
    "IVF_PQ": {"m": "32"},
    "FAISS": {"faiss_index_name": "OPQ64,IVF128,PQ64x4fs,RFlat"},
}
SEARCH: dict[str, dict[str, object]] = {
    "HNSW": {"ef": 64},
    "HNSW_SQ": {"ef": 64},
    "HNSW_PQ": {"ef": 64, "refine_k": 4},
    "HNSW_PRQ": {"ef": 64, "refine_k": 4},
    "SCANN": {"nprobe": 16, "reorder_k": 100},
    "IVF_RABITQ": {"nprobe": 32},
    "DISKANN": {"search_list": 64},
}


@dataclass
class Rows:
    """The part of a RowSet that a search without output needs; rows that are not kept are marked as deleted."""

    column_values: Array
    opened: VectorIndex
    marks: DeleteMarks = field(default_factory=DeleteMarks.none)
    segment_id: int = 1
    partition_id: int = 1
    is_growing: bool = False
    max_insert_ts: int = 0

    @property
    def row_count(self) -> int:
        return len(self.column_values)

    @cached_property
    def keys(self) -> KeyIndex:
        return KeyIndex.build(np.arange(self.row_count))

    def column(self, field_id: int) -> Column:
        if field_id == KEY:
            return Column(DataType.INT64, self.keys.sorted_keys)
        return Column(DataType.FLOAT_VECTOR, self.column_values)

    def index(self, field_id: int) -> VectorIndex:
        return self.opened

    def vectors(self, field_id: int) -> tuple[Array, None]:
        return self.column_values, None


def mixture(n: int, dim: int = 128) -> Array:
    """Seeded: 500 clusters on a space of lower dimension, with noise."""
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((500, 24)) @ rng.standard_normal((24, dim))
    vectors: Array = (centres[rng.integers(0, 500, n)] + 1.5 * rng.standard_normal((n, dim))).astype(np.float32)
    return vectors


def opened(path: Path, vectors: Array, index_type: str, metric: MetricType) -> tuple[VectorIndex, dict[str, Any]]:
    found = TYPES[index_type]
    resolved = resolve(
        FieldSchema(1, "vec", DataType.FLOAT_VECTOR, dim=vectors.shape[1]),
        {"index_type": index_type, "metric_type": metric.value, **BUILD.get(index_type, {})},
    )
    if not path.exists():
        started = time.perf_counter()
        found.save(found.build(vectors, resolved.build_params, metric, DataType.FLOAT_VECTOR, 2), path)
        seal_written(path, INDEX_KIND, FORMAT_VERSION)
        threads(1)
        print(f"{index_type} built in {time.perf_counter() - started:.1f} s, {path.stat().st_size / 1e6:.1f} MB")
    return found.open(open_index_file(path, resident=found.is_resident).payload, metric, path), resolved.build_params


def marks_of(kept: Array) -> DeleteMarks:
    rows = np.flatnonzero(~kept)
    return DeleteMarks.none().with_marks(rows, np.ones(len(rows), np.int64), len(kept))


def measure(rows: Rows, plan: SearchPlan, exact: Array) -> str:
    times, hits, ways = [], 0, set()
    for number, query in enumerate(plan.queries):
        started = time.perf_counter()
        answer = search_one(cast(RowSet, rows), replace(plan, queries=query[None]))
        times.append(time.perf_counter() - started)
        hits += len(set(answer.rows[0].tolist()) & set(exact[number].tolist()))
        ways.add(
            f"{answer.stats.way} {answer.stats.effort or ''}".strip()
            + ("+scan" if answer.stats.effort and answer.stats.scanned_queries else "")
        )
    shown = sorted(ways)
    way = ", ".join(shown if len(shown) < 4 else [*shown[:2], "..."])
    p50, p99 = 1000 * np.percentile(times, [50, 99])
    return f"{hits / exact.size:7.3f} {p50:8.2f} {p99:8.2f}  {way}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=QUERIES, help="of the 1,000, how many are asked")
    parser.add_argument("--index", nargs="*", default=["HNSW", "IVF_FLAT"])
    parser.add_argument("--metric", default="L2", type=MetricType)
    parser.add_argument("--search", nargs="*", default=[], metavar="NAME=VALUE", help="instead of the usual effort")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "milvine-recall")
    given = parser.parse_args()
    loaded = mixture(given.rows + QUERIES) if given.vectors is None else np.load(given.vectors).astype(np.float32)
    queries, vectors = loaded[: given.queries], np.ascontiguousarray(loaded[QUERIES : QUERIES + given.rows])
    given.cache.mkdir(parents=True, exist_ok=True)
    name = "mixture" if given.vectors is None else given.vectors.stem
    rng = np.random.default_rng(1)
    away = np.linalg.norm(vectors - vectors[rng.integers(len(vectors))], axis=1)
    masks = [("all", 1.0, np.ones(len(vectors), np.bool_))]
    for share in SHARES:
        masks.append(("spread", share, rng.random(len(vectors)) < share))
        masks.append(("region", share, away <= np.quantile(away, share)))
    exact = {(kind, share): scan(vectors, None, queries, K, given.metric, kept)[1] for kind, share, kept in masks}
    for index_type in given.index:
        path = given.cache / f"{name}-{len(vectors)}-{given.metric}-{index_type}.index"
        index, built = opened(path, vectors, index_type, given.metric)
        asked = dict(pair.split("=") for pair in given.search) or SEARCH.get(index_type, {"nprobe": 16})
        effort = TYPES[index_type].effort(built, asked, K, DataType.FLOAT_VECTOR)
        compared = TYPES[index_type].exact(built, asked, DataType.FLOAT_VECTOR)
        print(f"\n{index_type} {given.metric} {asked} {len(vectors)} x {vectors.shape[1]}")
        print("kept             recall   p50 ms   p99 ms  how")
        for kind, share, kept in masks:
            rows = Rows(vectors, index, marks_of(kept))
            plan = SearchPlan(VECTOR, queries, K, given.metric, compared, effort, 2, None, None, (), KEY)
            print(f"{share:5.0%} {kind:8} {measure(rows, plan, exact[kind, share])}", flush=True)


if __name__ == "__main__":
    main()
