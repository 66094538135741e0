"""Indexes of faiss: built, saved, mapped in place, searched under a mask."""

from __future__ import annotations

import gc
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from milvine.errors import DataIntegrityError
from milvine.index.base import Effort, VectorIndex
from milvine.index.hnsw import HnswIndex
from milvine.index.ivf import IvfIndex
from milvine.index.partial import PartialIndex
from milvine.index.registry import TYPES
from milvine.index.scan import scan, unit
from milvine.model.types import DataType, MetricType
from milvine.model.vectors.conversion import as_float32, from_float32
from milvine.storage.files import save_sealed, seal_written
from milvine.storage.segment_files import FORMAT_VERSION, INDEX_KIND, open_index_file

Array = np.ndarray[Any, Any]
METRICS = [MetricType.L2, MetricType.IP, MetricType.COSINE]
PARAMS = {"M": 16, "efConstruction": 100}
CODED: dict[str, dict[str, Any]] = {
    "IVF_FLAT": {"nlist": 32},
    "IVF_SQ8": {"nlist": 32},
    "IVF_PQ": {"nlist": 32, "m": 8, "nbits": 6},
    "IVF_RABITQ": {"nlist": 32, "rbq_bits": 2},
    "SCANN": {"nlist": 32},
    "HNSW_SQ": {**PARAMS, "sq_type": "sq8"},
    "HNSW_PQ": {**PARAMS, "m": 8, "nbits": 6},
    "DISKANN": {},
    "AISAQ": {},
    "FAISS": {"faiss_index_name": "PCA16,IVF32,PQ8x4,RFlat"},
    "HNSW_PRQ": {**PARAMS, "m": 8, "nrq": 2, "nbits": 4},
}
TRAINED_FOR_SECONDS = {"faiss_index_name": "OPQ8,IVF32,PQ8x4,RFlat"}


def sample(n: int, dim: int = 16, seed: int = 1) -> Array:
    rng = np.random.default_rng(seed)
    vectors: Array = rng.standard_normal((n, dim), np.float32) * rng.uniform(0.5, 2, (n, 1)).astype(np.float32)
    return vectors


def save(
    path: Path,
    vectors: Array,
    name: str,
    build_params: dict[str, Any],
    metric: MetricType,
    threads: int = 1,
    data_type: DataType = DataType.FLOAT_VECTOR,
) -> int:
    """The size of the sealed file."""
    index_type = TYPES[name]
    index_type.save(index_type.build(vectors, build_params, metric, data_type, threads), path)
    return seal_written(path, INDEX_KIND, FORMAT_VERSION)


def opened(path: Path, name: str, metric: MetricType) -> VectorIndex:
    return TYPES[name].open(open_index_file(path, resident=True).payload, metric, path)


def built(path: Path, vectors: Array, metric: MetricType) -> HnswIndex:
    save(path, vectors, "HNSW", PARAMS, metric, 2)
    index = opened(path, "HNSW", metric)
    assert isinstance(index, HnswIndex)
    return index


def looked(index: HnswIndex, queries: Array, k: int, ef: int, mask: Array | None) -> tuple[Array, Array]:
    found = index.search(queries, k, Effort(ef, 8, k), mask)
    return found.distances, found.rows


def recall(found: Array, exact: Array) -> float:
    hits = [len(set(f.tolist()) & set(e.tolist())) / len(e) for f, e in zip(found, exact, strict=True)]
    return float(np.mean(hits))


@pytest.mark.parametrize("metric", METRICS)
def test_a_graph_finds_what_a_scan_finds(tmp_path: Path, metric: MetricType) -> None:
    vectors, queries = sample(3000), sample(50, seed=2)
    index = built(tmp_path / "1.index", vectors, metric)
    assert index.row_count == 3000
    distances, rows = looked(index, queries, 10, 128, None)
    exact_distances, exact_rows = scan(vectors, None, queries, 10, metric, None)
    assert recall(rows, exact_rows) >= 0.95
    assert (np.diff(distances, axis=1) >= 0).all(), "nearest first, and smaller is nearer"
    same = rows == exact_rows
    assert np.allclose(distances[same], exact_distances[same], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("metric", METRICS)
def test_the_index_holds_the_vectors_in_place_and_unit_ones_under_cosine(tmp_path: Path, metric: MetricType) -> None:
    vectors = sample(1500)
    index = built(tmp_path / "1.index", vectors, metric)
    assert np.array_equal(index.vectors, unit(vectors) if metric is MetricType.COSINE else vectors)
    assert not index.vectors.flags.owndata
    assert not index.vectors.flags.writeable


def test_only_allowed_rows_are_found_even_if_fewer_than_k(tmp_path: Path) -> None:
    vectors, queries = sample(2000), sample(20, seed=3)
    index = built(tmp_path / "1.index", vectors, MetricType.L2)
    mask = np.random.default_rng(1).random(2000) < 0.5
    _, rows = looked(index, queries, 10, 200, mask)
    assert (rows >= 0).all()
    assert mask[rows].all()
    few = np.zeros(2000, np.bool_)
    few[[5, 9, 1999]] = True
    distances, rows = looked(index, queries, 10, 4000, few)
    assert np.isin(rows[rows >= 0], [5, 9, 1999]).all()
    assert np.isposinf(distances[rows < 0]).all()
    assert (rows[:, 3:] == -1).all()


def test_k_beyond_the_row_count_gives_all_rows_and_padding(tmp_path: Path) -> None:
    index = built(tmp_path / "1.index", sample(60), MetricType.IP)
    distances, rows = looked(index, sample(2, seed=4), 100, 100, None)
    assert rows.shape == (2, 100)
    for query in range(2):
        assert sorted(rows[query, :60].tolist()) == list(range(60))
        assert np.isfinite(distances[query, :60]).all()
    assert (rows[:, 60:] == -1).all()
    assert np.isposinf(distances[:, 60:]).all()


def test_the_mapping_lives_as_long_as_index_or_vectors_are_in_use(tmp_path: Path) -> None:
    path = tmp_path / "1.index"
    expected = sample(4000, 32)
    index = built(path, expected, MetricType.L2)
    path.unlink()
    gc.collect()
    assert looked(index, expected[:5], 1, 64, None)[1][:, 0].tolist() == [0, 1, 2, 3, 4]
    vectors = index.vectors
    del index
    gc.collect()
    assert str(path) in Path("/proc/self/maps").read_text()
    assert np.array_equal(vectors, expected)
    del vectors
    gc.collect()
    assert str(path) not in Path("/proc/self/maps").read_text(), "the pages are not freed"


def test_a_file_that_faiss_cannot_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "1.index"
    save_sealed(path, INDEX_KIND, FORMAT_VERSION, [b"not an index at all, but well sealed" * 10])
    with pytest.raises(DataIntegrityError, match=re.escape(str(path))):
        opened(path, "HNSW", MetricType.L2)


def test_an_index_type_that_is_only_scanned_is_not_built(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="FLAT"):
        save(tmp_path / "1.index", sample(10), "FLAT", {}, MetricType.L2)


def test_every_index_type_of_float_vectors_is_in_these_tests() -> None:
    built = {name for name, t in TYPES.items() if DataType.FLOAT_VECTOR in t.data_types and t.needs_build(10_000)}
    assert built == {"HNSW", *CODED}


@pytest.mark.parametrize("with_vector", [10, 1200, 3000])
def test_the_memory_of_an_index_over_few_of_the_rows_is_reserved(tmp_path: Path, with_vector: int) -> None:
    path = tmp_path / "1.index"
    size = save(path, sample(with_vector), "DISKANN", {}, MetricType.L2)
    taken = opened(path, "DISKANN", MetricType.L2).memory_bytes
    reserved = TYPES["DISKANN"].memory_bytes(size, 3000, 16)
    assert taken <= reserved <= 1.1 * taken + 1000


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("build_type", "build_params"),
    [
        *(pytest.param(name, params, id=name) for name, params in CODED.items()),
        pytest.param("FAISS", TRAINED_FOR_SECONDS, id="FAISS-OPQ", marks=pytest.mark.nightly),
    ],
)
def test_the_candidates_of_an_index_include_the_nearest_allowed_rows(
    tmp_path: Path, build_type: str, build_params: dict[str, Any], metric: MetricType
) -> None:
    vectors, queries = sample(3000), sample(20, seed=2)
    path = tmp_path / "1.index"
    size = save(path, vectors, build_type, build_params, metric)
    index = opened(path, build_type, metric)
    assert index.memory_bytes <= TYPES[build_type].memory_bytes(size, 3000, 16), "loading reserves less than it takes"
    assert index.is_exact is (build_type == "IVF_FLAT")
    for mask in (None, np.arange(3000) % 4 != 1):
        found = index.search(queries, 100, Effort(300, 32, 100), mask)
        assert mask is None or mask[found.rows[found.rows >= 0]].all()
        exact = scan(vectors, None, queries, 10, metric, mask)[1]
        inside = [len(set(f) & set(e)) for f, e in zip(found.rows.tolist(), exact.tolist(), strict=True)]
        assert np.mean(inside) >= 9


def test_lists_and_code_words_are_limited_to_the_row_count(tmp_path: Path) -> None:
    vectors = sample(1100)
    for build_type, build_params in (
        ("IVF_PQ", {"nlist": 65536, "m": 8, "nbits": 24}),
        ("HNSW_PQ", {**PARAMS, "m": 8, "nbits": 24}),
    ):
        path = tmp_path / f"{build_type}.index"
        save(path, vectors, build_type, build_params, MetricType.L2)
        index = opened(path, build_type, MetricType.L2)
        assert index.search(vectors[:5], 1, Effort(64, 65536, 1), None).rows[:, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kept", [0, 3, 90, 2000])
def test_lists_are_scanned_for_few_and_for_many_rows(tmp_path: Path, metric: MetricType, kept: int) -> None:
    vectors, queries = sample(2000), sample(3, seed=2)
    save(tmp_path / "i", vectors, "IVF_FLAT", {"nlist": 32}, metric)
    index = opened(tmp_path / "i", "IVF_FLAT", metric)
    mask = np.zeros(2000, np.bool_)
    mask[np.random.default_rng(3).choice(2000, kept, replace=False)] = True
    found, wanted = index.scan(queries, 5, mask), scan(vectors, None, queries, 5, metric, mask)
    assert found[1].tolist() == wanted[1].tolist()
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("build_type", ["HNSW", "IVF_FLAT"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_graph_finds_kept_rows_in_a_region_far_from_the_query(tmp_path: Path, build_type: str, share: float) -> None:
    """Clusters far apart, most queries outside the kept rows: a search that stops early finds nothing."""
    rng = np.random.default_rng(3)
    centers = 4 * rng.standard_normal((50, 16))
    vectors = (centers[np.sort(rng.integers(0, 50, 8000))] + rng.standard_normal((8000, 16))).astype(np.float32)
    queries = (centers[rng.integers(0, 50, 60)] + rng.standard_normal((60, 16))).astype(np.float32)
    mask = np.arange(8000) < share * 8000
    build_params = PARAMS if build_type == "HNSW" else {"nlist": 50}
    path = tmp_path / "1.index"
    save(path, vectors, build_type, build_params, MetricType.L2)
    index = opened(path, build_type, MetricType.L2)
    assert isinstance(index, HnswIndex | IvfIndex)
    found = index.search(queries, 10, Effort(64, 8, 10), mask)
    exact = scan(vectors, None, queries, 10, MetricType.L2, mask)[1]
    good = found.trusted
    assert good.any()
    assert recall(found.rows[good], exact[good]) >= 0.95, "a poor answer is not marked as such"


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("build_type", "data_type"),
    [
        ("HNSW", DataType.FLOAT16_VECTOR),
        ("HNSW", DataType.BFLOAT16_VECTOR),
        ("HNSW", DataType.INT8_VECTOR),
        ("IVF_FLAT", DataType.FLOAT16_VECTOR),
        ("IVF_FLAT", DataType.BFLOAT16_VECTOR),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_an_index_over_narrow_vectors_is_as_narrow_and_leaves_nulls_out(
    tmp_path: Path, build_type: str, data_type: DataType, metric: MetricType
) -> None:
    wide, queries = sample(3000), sample(20, seed=2)
    narrow = (30 * wide).clip(-128, 127).astype(np.int8) if data_type is DataType.INT8_VECTOR else None
    vectors = from_float32(wide, data_type) if narrow is None else narrow
    queries = queries if narrow is None else 30 * queries
    validity = np.arange(3000) % 3 != 0
    built_params = PARAMS if build_type == "HNSW" else {"nlist": 32}
    sizes = {}
    for name, rows in (("narrow", vectors[validity]), ("wide", as_float32(vectors[validity]))):
        path, kept = tmp_path / name, data_type if name == "narrow" else DataType.FLOAT_VECTOR
        sizes[name] = save(path, rows, build_type, built_params, metric, 1, kept)
    saved = (4 - vectors.dtype.itemsize) * 16 * 2000
    assert abs(sizes["wide"] - sizes["narrow"] - saved) < 1000
    path = tmp_path / "narrow"
    index = PartialIndex(opened(path, build_type, metric), validity)
    assert not index.is_exact
    limit = TYPES[build_type].memory_bytes(sizes["narrow"], 3000, 16) + 4 * 3000
    assert index.memory_bytes <= limit, "loading reserves less than it takes"
    for mask in (validity, validity & (np.arange(3000) % 4 != 1)):
        found = index.search(queries, 40, Effort(300, 32, 40), mask)
        assert mask[found.rows[found.rows >= 0]].all()
        exact = scan(vectors, None, queries, 10, metric, mask)[1]
        inside = [len(set(f) & set(e)) for f, e in zip(found.rows.tolist(), exact.tolist(), strict=True)]
        assert np.mean(inside) >= 9.5


def test_a_filtered_search_of_many_queries_over_many_lists_takes_bounded_memory(tmp_path: Path) -> None:
    vectors, queries = sample(4096, dim=4), sample(10_000, dim=4, seed=2)
    path = tmp_path / "index"
    save(path, vectors, "IVF_FLAT", {"nlist": 1024}, MetricType.L2, 2)
    index = opened(path, "IVF_FLAT", MetricType.L2)
    mask = np.arange(4096) % 2 == 0
    few = index.search(queries[:5], 3, Effort(64, 8, 3), mask)
    tracemalloc.start()
    try:
        many = index.search(queries, 3, Effort(64, 8, 3), mask)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.array_equal(many.rows[:5], few.rows)
    assert peak < 64 << 20  # all queries by all lists at once would be 280 MB
