"""Recall and time of filtered searches in one indexed segment, by the share of rows that is kept.

    python benches/recall.py [--vectors FILE.npy] [--rows 100000] [--index HNSW IVF_FLAT ...] [--metric L2]
    python benches/recall.py --data binary --index all --table

The first 1,000 vectors are queries. "spread": the kept rows are anywhere; "region": they are the nearest to one row,
so that most queries lie outside. Without a file the vectors are made from a seeded mixture: as they are, their signs
("binary"), their largest projections ("sparse"), or groups of similar MinHash signatures ("signatures"). Built indexes
are kept in --cache. A row counts as found if it is as near as the row of the true answer at the last place.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from faiss import omp_set_num_threads as threads

from milvine.index.base import VectorIndex
from milvine.index.exact import exact_of
from milvine.index.registry import TYPES
from milvine.index.vector_params import resolve
from milvine.model.columns import Column
from milvine.model.schema import FieldSchema
from milvine.model.sparse_vectors import SparseVectors
from milvine.model.types import DataType, MetricType
from milvine.model.vectors import kind_of
from milvine.model.vectors.fixed_width import FixedWidthKind
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
TABLE_SHARES = (0.9, 0.5, 0.1, 0.01)
BITS, TERMS, HASHES, GROUP = 256, 1000, 32, 25
BUILD = {
    "HNSW": {"M": "16", "efConstruction": "200"},
    "HNSW_PQ": {"M": "16", "efConstruction": "200", "refine": "true"},
    "HNSW_PRQ": {"M": "16", "efConstruction": "200", "m": "32", "nbits": "4", "refine": "true"},
    "IVF_PQ": {"m": "32"},
    "FAISS": {"faiss_index_name": "IVF128,PQ32x4fs,RFlat"},
    "FAISS binary": {"faiss_index_name": "BIVF128"},
    "MINHASH_LSH": {"mh_element_bit_width": "32", "mh_lsh_band": "16"},
}
"""Of a type, or of a type over some data."""
SEARCH: dict[str, dict[str, object]] = {
    "HNSW": {"ef": 64},
    "HNSW_SQ": {"ef": 64},
    "HNSW_PQ": {"ef": 64, "refine_k": 4},
    "HNSW_PRQ": {"ef": 64, "refine_k": 4},
    "SCANN": {"nprobe": 16, "reorder_k": 100},
    "IVF_RABITQ": {"nprobe": 32},
    "DISKANN": {"search_list": 64},
    "AISAQ": {"search_list": 64},
    "MINHASH_LSH": {"mh_search_with_jaccard": True, "refine_k": 100},
    "FLAT": {},
    "BIN_FLAT": {},
    "SPARSE_INVERTED_INDEX": {},
    "SPARSE_WAND": {},
}


@dataclass
class Rows:
    """The part of a RowSet that a search without output needs; rows that are not kept are marked as deleted."""

    data_type: DataType
    column_values: Any
    opened: VectorIndex | None
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
        return Column(self.data_type, self.column_values)

    def index(self, field_id: int) -> VectorIndex | None:
        return self.opened

    def vectors(self, field_id: int) -> tuple[Any, None]:
        return self.column_values, None


def mixture(n: int, dim: int = 128) -> Array:
    """Seeded: 500 clusters on a space of lower dimension, with noise."""
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((500, 24)) @ rng.standard_normal((24, dim))
    vectors: Array = (centres[rng.integers(0, 500, n)] + 1.5 * rng.standard_normal((n, dim))).astype(np.float32)
    return vectors


def bits(n: int, dim: int) -> Array:
    """The signs of projections of the mixture."""
    planes = np.random.default_rng(8).standard_normal((dim, BITS)).astype(np.float32)
    return np.packbits(mixture(n, dim) @ planes > 0, axis=1)


def terms(n: int, dim: int) -> SparseVectors:
    """The largest 3 of 100 projections of the mixture."""
    axes = np.random.default_rng(8).standard_normal((dim, TERMS)).astype(np.float32)
    weights = mixture(n, dim) @ axes
    is_kept = weights > np.quantile(weights[:1000], 0.97)
    offsets = np.concatenate(([0], np.cumsum(is_kept.sum(axis=1))))
    return SparseVectors(offsets, np.nonzero(is_kept)[1].astype(np.uint32), weights[is_kept])


def signatures(n: int, _dim: int) -> Array:
    """Groups of 25 that differ in up to half of the hashes of their first, in random order."""
    rng = np.random.default_rng(7)
    hashes = rng.integers(2**32, size=(n, HASHES), dtype=np.uint32)
    is_kept = rng.random((n, HASHES)) >= rng.random((n, 1)) / 2
    found: Array = np.where(is_kept, hashes[np.arange(n) // GROUP * GROUP], hashes)[rng.permutation(n)]
    return found.view(np.uint8)


DATA: dict[str, tuple[Callable[[int, int], Any], DataType, MetricType]] = {
    "dense": (mixture, DataType.FLOAT_VECTOR, MetricType.L2),
    "binary": (bits, DataType.BINARY_VECTOR, MetricType.HAMMING),
    "signatures": (signatures, DataType.BINARY_VECTOR, MetricType.MHJACCARD),
    "sparse": (terms, DataType.SPARSE_FLOAT_VECTOR, MetricType.IP),
}


def opened(
    path: Path, vectors: Any, field: FieldSchema, params: dict[str, str]
) -> tuple[VectorIndex | None, dict[str, Any]]:
    resolved = resolve(field, params)
    found, metric = TYPES[resolved.build_type], resolved.metric_type
    assert metric is not None
    if not found.needs_build(len(vectors)):
        return None, resolved.build_params
    if not path.exists():
        started = time.perf_counter()
        found.save(found.build(vectors, resolved.build_params, metric, field.data_type, 2), path)
        seal_written(path, INDEX_KIND, FORMAT_VERSION)
        threads(1)
        print(f"{found.name} built in {time.perf_counter() - started:.1f} s, {path.stat().st_size / 1e6:.1f} MB")
    return found.open(open_index_file(path, resident=found.is_resident).payload, metric, path), resolved.build_params


def marks_of(kept: Array) -> DeleteMarks:
    rows = np.flatnonzero(~kept)
    return DeleteMarks.none().with_marks(rows, np.ones(len(rows), np.int64), len(kept))


@dataclass(frozen=True)
class Measured:
    recall: float
    p50: float
    p99: float
    """Milliseconds."""
    way: str


def measure(rows: Rows, plan: SearchPlan, exact: Array) -> Measured:
    """`exact` (nq, k): the true distances, padded with inf."""
    times, hits, ways = [], 0, set()
    last = np.max(exact, axis=1, where=np.isfinite(exact), initial=np.finfo(np.float32).min / 2)
    last = last + 1e-5 * np.abs(last)
    for number, limit in enumerate(last):
        started = time.perf_counter()
        answer = search_one(cast(RowSet, rows), replace(plan, queries=plan.queries[number : number + 1]))
        times.append(time.perf_counter() - started)
        hits += int(np.count_nonzero(answer.distances[0] <= limit))
        ways.add(
            f"{answer.stats.way} {answer.stats.effort or ''}".strip()
            + ("+scan" if answer.stats.effort and answer.stats.scanned_queries else "")
        )
    shown = sorted(ways)
    p50, p99 = 1000 * np.percentile(times, [50, 99])
    way = ", ".join(shown if len(shown) < 4 else [*shown[:2], "..."])
    wanted = int(np.count_nonzero(np.isfinite(exact)))
    return Measured(hits / max(wanted, 1), p50, p99, way)


def masks_of(vectors: Any, data_type: DataType, metric: MetricType, shares: tuple[float, ...]) -> list[Any]:
    """(kind, share, bool (n,)) of the kept rows."""
    n, rng = len(vectors), np.random.default_rng(1)
    centre = int(rng.integers(n))
    ranked = exact_of(FieldSchema(VECTOR, "vec", data_type)).scan(
        vectors, None, vectors[centre : centre + 1], n, metric, None
    )[1][0]
    ranked = ranked[ranked >= 0]
    ranked = np.concatenate([ranked, np.setdiff1d(np.arange(n), ranked)])
    masks = [("all", 1.0, np.ones(n, np.bool_))]
    for share in shares:
        masks.append(("spread", share, rng.random(n) < share))
        region = np.zeros(n, np.bool_)
        region[ranked[: max(int(share * n), 1)]] = True
        masks.append(("region", share, region))
    return masks


def types_for(data_type: DataType, metric: MetricType) -> list[str]:
    return [name for name, found in TYPES.items() if data_type in found.data_types and metric in found.metrics]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="dense", choices=DATA)
    parser.add_argument("--vectors", type=Path, help="dense vectors instead of made ones")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--queries", type=int, default=QUERIES, help="of the 1,000, how many are asked")
    parser.add_argument("--index", nargs="*", default=["HNSW", "IVF_FLAT"], help='"all" for all that take the data')
    parser.add_argument("--metric", type=MetricType, help="instead of the usual one of the data")
    parser.add_argument("--search", nargs="*", default=[], metavar="NAME=VALUE", help="instead of the usual effort")
    parser.add_argument("--table", action="store_true", help="four shares, a line for each index")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "milvine-recall")
    given = parser.parse_args()
    make, data_type, usual_metric = DATA[given.data]
    metric = given.metric or usual_metric
    count = given.rows + QUERIES
    loaded = make(count, given.dim) if given.vectors is None else np.load(given.vectors).astype(np.float32)
    queries, vectors = loaded[: given.queries], loaded[QUERIES:count]
    name = f"{given.data}-{given.dim}" if given.vectors is None else given.vectors.stem
    given.cache.mkdir(parents=True, exist_ok=True)
    masks = masks_of(vectors, data_type, metric, TABLE_SHARES if given.table else SHARES)
    kind_of_data = kind_of(data_type)
    dim = kind_of_data.dim_of(vectors.shape[1]) if isinstance(kind_of_data, FixedWidthKind) else None
    if given.table:
        shares = " | ".join(f"{share:.0%} {kind}".removesuffix(" all") for kind, share, _ in masks)
        print(f"| index | search | {shares} |\n|{'---|' * (len(masks) + 2)}")
    for index_type in types_for(data_type, metric) if given.index == ["all"] else given.index:
        path = given.cache / f"{name}-{len(vectors)}-{metric}-{index_type}.index"
        build = BUILD.get(f"{index_type} {given.data}") or BUILD.get(index_type, {})
        field = FieldSchema(VECTOR, "vec", data_type, dim=dim)
        index, built = opened(path, vectors, field, {"index_type": index_type, "metric_type": metric.value, **build})
        asked = dict(pair.split("=") for pair in given.search) or SEARCH.get(index_type, {"nprobe": 16})
        effort = TYPES[index_type].effort(built, asked, K, data_type)
        compared = TYPES[index_type].exact(built, asked, field)
        plan = SearchPlan(VECTOR, queries, K, metric, compared, effort, 2, None, None, (), KEY)
        shown = ", ".join(f"{key} {value}" for key, value in asked.items())
        print(f"| {index_type} | {shown} |" if given.table else f"\n{index_type} {metric} {shown} {name}", end=" ")
        if not given.table:
            print("\nkept             recall   p50 ms   p99 ms  how")
        for kind, share, kept in masks:
            exact = compared.scan(vectors, None, queries, K, metric, kept)[0]
            found = measure(Rows(data_type, vectors, index, marks_of(kept)), plan, exact)
            if given.table:
                print(f"{found.recall:.3f} / {found.p50:.2f} |", end=" ", flush=True)
            else:
                figures = f"{found.recall:7.3f} {found.p50:8.2f} {found.p99:8.2f}"
                print(f"{share:5.0%} {kind:8} {figures}  {found.way}", flush=True)
        print()


if __name__ == "__main__":
    main()
