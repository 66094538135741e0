"""Bands of distances over every type of inverted lists and metric, against plain numpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from milvine.index.base import Array, VectorIndex
from milvine.index.by_distance import Band
from milvine.index.exact import exact_of_family
from milvine.index.partial import PartialIndex
from milvine.index.registry import TYPES
from milvine.model.columns import Column
from milvine.model.types import DataType, MetricType
from milvine.segment.band_search import search_lists
from milvine.segment.collect import TopKeys
from milvine.segment.plans import SearchPlan

ROWS, DIM, BITS, KEY, VECTOR = 6000, 16, 256, 100, 101
KINDS: dict[str, tuple[str, MetricType, dict[str, Any]]] = {
    **{f"flat {metric}": ("IVF_FLAT", metric, {}) for metric in (MetricType.L2, MetricType.IP, MetricType.COSINE)},
    "sq8": ("IVF_SQ8", MetricType.COSINE, {}),
    "pq": ("IVF_PQ", MetricType.L2, {"m": 8, "nbits": 8}),
    "rabitq": ("IVF_RABITQ", MetricType.IP, {"rbq_bits": 1}),
    "scann": ("SCANN", MetricType.L2, {}),
    "faiss": ("FAISS", MetricType.L2, {"faiss_index_name": "IVF64,SQ8"}),
    "hamming": ("BIN_IVF_FLAT", MetricType.HAMMING, {}),
    "jaccard": ("BIN_IVF_FLAT", MetricType.JACCARD, {}),
    "nullable": ("IVF_FLAT", MetricType.L2, {}),
}
KEPT = {"all": None, "half": np.arange(ROWS) % 2 == 1, "most": np.arange(ROWS) % 11 != 0}
VALID = np.arange(ROWS) % 7 != 3


@dataclass
class Answer:
    rows: Array
    distances: Array
    is_left: bool
    """To a scan of all rows."""
    visited: int


@dataclass
class Segment:
    index: VectorIndex
    metric: MetricType
    vectors: Array
    valid: Array
    distances: Array
    """From the query, smaller is nearer."""
    query: Array

    def band(self, low: int, high: int, kept: Array | None) -> Band:
        """Between the rows of these ranks."""
        near = np.sort(self.distances[self.valid if kept is None else kept & self.valid])
        start, stop = np.searchsorted(near, near[[low, high]])
        return Band(np.float32(-np.inf) if low == 0 else near[start], near[stop])

    def inside(self, band: Band, kept: Array | None) -> Array:
        return np.flatnonzero(band.holds(self.distances) & (self.valid if kept is None else kept & self.valid))

    def search(
        self, band: Band, k: int, kept: Array | None, *, whole: bool, keys: Column | None = None, **params: Any
    ) -> Answer:
        built = TYPES[self.index.name]
        plan = SearchPlan(
            field_id=VECTOR,
            queries=self.query,
            k=k,
            metric=self.metric,
            exact=exact_of_family("binary" if self.vectors.dtype == np.uint8 else "dense"),
            effort=built.effort(
                {"faiss_index_name": "IVF64,SQ8"}, {"radius": 1, "nprobe": 2, **params}, k, DataType.FLOAT_VECTOR
            ),
            read_ts=1,
            predicate=None,
            partition_ids=None,
            output_field_ids=(),
            primary_field_id=KEY,
            band=band,
            wants_whole_band=whole,
        )
        key_column = keys or Column(DataType.INT64, np.arange(ROWS))
        rows: Any = SimpleNamespace(
            row_count=ROWS,
            vectors=lambda _: (self.vectors, None),
            keys=SimpleNamespace(has_repeats=False),
            column=lambda _: key_column,
        )
        mask = kept if self.valid.all() else self.valid if kept is None else kept & self.valid
        top = TopKeys(rows, KEY, 1, k)
        assert self.index.lists is not None
        visited = search_lists(top, rows, self.index, self.index.lists, plan, mask)
        count = np.count_nonzero(top.rows[0] >= 0)
        return Answer(top.rows[0, :count], top.distances[0, :count], not top.is_full[0], visited)


@pytest.fixture(scope="module", params=KINDS)
def segment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Segment:
    name, metric, params = KINDS[request.param]
    rng = np.random.default_rng(21)
    centers = rng.normal(size=(60, DIM))
    vectors: Array = (centers[rng.integers(0, 60, ROWS)] + 0.5 * rng.normal(size=(ROWS, DIM))).astype(np.float32)
    valid = VALID if request.param == "nullable" else np.ones(ROWS, np.bool_)
    family = "dense"
    if name == "BIN_IVF_FLAT":
        vectors, family = np.packbits(vectors @ rng.normal(size=(DIM, BITS)) > -1, axis=1), "binary"
    query = vectors[40:41] if family == "binary" else vectors[40:41] + np.float32(0.01)
    data_type = DataType.BINARY_VECTOR if family == "binary" else DataType.FLOAT_VECTOR
    built = TYPES[name].build(vectors[valid], {"nlist": 64, **params}, metric, data_type, 1)
    path = tmp_path_factory.mktemp("lists") / "index"
    TYPES[name].save(built, path)
    index = TYPES[name].open(memoryview(Path(path).read_bytes()), metric, path)
    if not valid.all():
        index = PartialIndex(index, valid)
    near, found = exact_of_family(family).exact_distances(vectors, query, np.arange(ROWS)[None], ROWS, metric)
    distances = np.empty(ROWS, np.float32)
    distances[found[0]] = near[0]
    return Segment(index, metric, vectors, valid, distances, query)


@pytest.mark.parametrize("kept", KEPT)
def test_steps_of_an_iterator_find_the_rows_inside_a_band_once(segment: Segment, kept: str) -> None:
    for low, high, share in ((0, 30, 0.8), (0, 120, 0.9), (40, 120, 0.9), (0, 250, 0.95)):
        band = segment.band(low, high, KEPT[kept])
        expected = segment.inside(band, KEPT[kept])
        found: list[int] = []
        step = band
        while True:
            answer = segment.search(step, 60, KEPT[kept], whole=True)
            if answer.is_left:
                found = expected.tolist()
            if answer.is_left or not len(answer.rows):
                break
            assert (np.diff(answer.distances) >= 0).all()
            # A step does not end among rows of one distance.
            taken = len(answer.rows)
            if taken == 60:
                taken = int(np.searchsorted(answer.distances, answer.distances[-1]))
            found += answer.rows[:taken].tolist()
            step = Band(np.nextafter(answer.distances[taken - 1], np.float32(np.inf)), band.high)
        assert len(found) == len(set(found))
        assert set(found) <= set(expected.tolist())
        assert len(found) >= share * len(expected), (low, high)


@pytest.mark.parametrize("kept", KEPT)
def test_the_nearest_rows_of_a_band_are_found(segment: Segment, kept: str) -> None:
    for low, high, k in ((0, 30, 50), (0, 2000, 10), (0, 2000, 100), (150, 1500, 20)):
        band = segment.band(low, high, KEPT[kept])
        expected = np.sort(segment.distances[segment.inside(band, KEPT[kept])])[:k]
        answer = segment.search(band, k, KEPT[kept], whole=False)
        if not answer.is_left:
            assert band.holds(answer.distances).all()
            assert (answer.distances == segment.distances[answer.rows]).all()
            assert np.count_nonzero(answer.distances <= expected[-1]) >= 0.8 * len(expected), (low, high, k)


@pytest.mark.parametrize("text", [False, True], ids=["int64", "varchar"])
def test_equally_near_rows_come_in_the_order_of_their_keys(segment: Segment, text: bool) -> None:
    keys = np.random.default_rng(22).permutation(ROWS)
    found = pa.array([f"{key:05}" for key in keys]) if text else keys
    column = Column(DataType.VARCHAR if text else DataType.INT64, found)
    for rank, k in ((300, 7), (300, 60), (30, 200)):
        band = segment.band(0, rank, None)
        answer = segment.search(band, k, None, whole=False, keys=column, nprobe=64)
        assert not answer.is_left
        inside = segment.inside(band, None)
        expected = inside[np.lexsort((keys[inside], segment.distances[inside]))][:k]
        assert answer.rows.tolist() == expected.tolist()


def test_no_row_is_left_out_if_no_number_of_lists_without_hits_ends_the_search(segment: Segment) -> None:
    band = segment.band(0, 60, None)
    expected = segment.inside(band, None).tolist()
    answer = segment.search(band, 100, None, whole=True, max_empty_result_buckets=0)
    assert answer.is_left or sorted(answer.rows.tolist()) == expected
    few = segment.search(band, 100, None, whole=True, nprobe=1, max_empty_result_buckets=1)
    more = segment.search(band, 100, None, whole=True, nprobe=1, max_empty_result_buckets="4")
    assert not few.is_left
    assert more.is_left or set(few.rows.tolist()) <= set(more.rows.tolist())


def test_a_narrow_band_ends_after_few_lists(segment: Segment) -> None:
    found = segment.search(segment.band(0, 3, None), 10, None, whole=True)
    assert not found.is_left
    assert len(found.rows) >= 1
    assert 2 <= found.visited <= 16


def test_a_wide_band_is_left_to_a_scan_unless_a_few_of_its_rows_are_enough(segment: Segment) -> None:
    band = segment.band(0, 3000, None)
    assert segment.search(band, 10, None, whole=True).is_left
    assert not segment.search(band, 10, None, whole=False).is_left
