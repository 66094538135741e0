"""SPARSE_INVERTED_INDEX: the rows of each index of sparse vectors. One exact engine serves every algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from milvine.index import inverted, inverted_terms
from milvine.index.array_file import read_arrays, write_arrays
from milvine.index.base import Array, Effort, Found, KeyCodes, VectorIndex
from milvine.index.by_distance import Band
from milvine.index.index_type import DEFAULT_NPROBE, IndexType
from milvine.index.inverted import InvertedIndex
from milvine.index.inverted_terms import TermIndex
from milvine.index.params import INT32_MAX, ExactChoiceParam, FloatParam, IntParam, Param, searched_share
from milvine.model.sparse_vectors import SparseVectors
from milvine.model.types import DataType, MetricType

_ALGORITHMS = (
    "TAAT_NAIVE",
    "DAAT_WAND",
    "DAAT_MAXSCORE",
    "BLOCK_MAX_MAXSCORE",
    "BLOCK_MAX_WAND",
    "SINDI",
)
_LARGEST_FLOAT = float(np.finfo(np.float32).max)
_CODECS = ("block_streamvbyte", "block_maskedvbyte")


class SparseInvertedIndex(IndexType):
    name = "SPARSE_INVERTED_INDEX"
    data_types = frozenset({DataType.SPARSE_FLOAT_VECTOR})
    metrics = frozenset({MetricType.IP, MetricType.BM25})
    params: ClassVar[Mapping[str, Param]] = {
        "inverted_index_algo": ExactChoiceParam(
            "DAAT_MAXSCORE", _ALGORITHMS, "sparse inverted index algo {} not found or not supported, supported: [{}]"
        ),
        "inverted_index_codec": ExactChoiceParam(
            "block_streamvbyte", _CODECS, "inverted_index_codec {} not found or not supported, supported: [{}]"
        ),
        "quant_type": ExactChoiceParam(
            "fp32", ("fp16", "fp32"), "quant_type for IP metric must be 'fp16' or 'fp32', got '{}'"
        ),
        "block_max_block_size": IntParam(128, 1, INT32_MAX),
        "sindi_window_size": IntParam(65535, 1024, 65535),
        "drop_ratio_build": FloatParam(0.0, 0.0, 1.0, is_high_allowed=False),
    }
    """Checked and kept. The engine is exact and has one form, so they change nothing."""
    metric_params: ClassVar[Mapping[MetricType, Mapping[str, Param]]] = {
        MetricType.BM25: {
            "bm25_k1": FloatParam(1.2, 0.0, _LARGEST_FLOAT),
            "bm25_b": FloatParam(0.75, 0.0, 1.0),
            "bm25_avgdl": FloatParam(100.0, 1.0, _LARGEST_FLOAT),
            "quant_type": ExactChoiceParam(
                "u16", ("u16", "u32"), "quant_type for BM25 metric must be 'u16' or 'u32', got '{}'"
            ),
        }
    }
    """The mean length is always that of the rows, as in Milvus, so `bm25_avgdl` changes nothing; nor does `quant_type`,
    which here replaces the one above."""
    auto: ClassVar = {DataType.SPARSE_FLOAT_VECTOR: {}}

    def build(
        self, vectors: Any, build_params: Mapping[str, Any], metric: MetricType, data_type: DataType, threads: int
    ) -> Any:
        return (inverted_terms if metric is MetricType.BM25 else inverted).build(vectors)

    def save(self, built: Any, path: Path) -> None:
        write_arrays(path, built)

    def open(self, payload: memoryview, metric: MetricType, path: Path) -> VectorIndex:
        if metric is MetricType.BM25:
            return TermIndex(read_arrays(payload, path, self.name, _check_terms), self.name, len(payload))
        return SparseIndex(read_arrays(payload, path, self.name, _check), self.name, len(payload))

    def memory_bytes(self, file_bytes: int, row_count: int, dim: int) -> int:
        return file_bytes

    def effort(self, build_params: Mapping[str, Any], params: Mapping[str, Any], k: int, data_type: DataType) -> Effort:
        """`drop_ratio_search` leaves out that share of a query's smallest values; the candidates that are left are
        ordered by their exact scores."""
        dropped = searched_share(params, "drop_ratio_search", 0.0, 1.0, is_high_allowed=False)
        searched_share(params, "dim_max_score_ratio", 0.5, 1.3)
        candidates = self.usual_candidates(k, data_type)
        return Effort(candidates, DEFAULT_NPROBE, candidates, dropped)


def _check(arrays: Mapping[str, Array]) -> None:
    """Raises KeyError and ValueError if a search could read beyond the arrays."""
    starts, rows = arrays["starts"], arrays["rows"]
    fits = len(starts) == len(arrays["terms"]) + 1 and len(rows) == len(arrays["values"])
    if not fits or int(starts[0]) != len(rows) or int(starts[-1]) != 0 or (np.diff(starts) > 0).any():
        raise ValueError("its arrays do not fit one another")
    if arrays["row_count"].shape != (1,):
        raise ValueError("it has no number of rows")


def _check_terms(arrays: Mapping[str, Array]) -> None:
    _check(arrays)
    if arrays["lengths"].shape != (int(arrays["row_count"][0]),):
        raise ValueError("its lengths do not fit its rows")


class SparseIndex:
    """An inverted index as the planner sees it."""

    is_exact = True
    lists = None

    def __init__(self, arrays: Mapping[str, Array], name: str, payload_bytes: int) -> None:
        self._index = InvertedIndex(arrays, name)
        self.name = name
        self.row_count = self._index.row_count
        self.heap_bytes = 0
        self.memory_bytes = payload_bytes

    def scan_pays(self, effort: Effort, kept: int) -> bool:
        """Never: a search takes the time of its lists, whatever the filter keeps."""
        return False

    def scan(self, queries: SparseVectors, k: int, mask: Array | None) -> tuple[Array, Array]:
        return self._index.scan(queries, k, mask)

    def scan_by_key(self, queries: SparseVectors, k: int, mask: Array | None, codes: KeyCodes) -> tuple[Array, Array]:
        return self._index.scan_by_key(queries, k, mask, codes)

    def scan_band(self, queries: SparseVectors, k: int, mask: Array | None, band: Band) -> tuple[Array, Array]:
        return self._index.search(queries, k, mask, band=band)

    def search(self, queries: SparseVectors, k: int, effort: Effort, mask: Array | None) -> Found:
        distances, rows = self._index.search(queries, k, mask, effort.drop_ratio)
        return Found(distances, rows, np.ones(len(queries), np.bool_), effort.candidates, not effort.drop_ratio)


TYPE = SparseInvertedIndex()
