"""Indexes over float vectors on faiss: built, saved, opened in place.

A COSINE index holds unit vectors under the inner product.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from milvine.errors import DataIntegrityError
from milvine.index import params
from milvine.index.base import VectorIndex
from milvine.index.hnsw import HnswIndex
from milvine.index.ivf import IvfIndex
from milvine.index.scan import Array, unit
from milvine.model.types import DataType, MetricType
from milvine.model.vectors.conversion import as_float32

faiss.omp_set_num_threads(1)
"""One thread per search, since requests run in parallel. Builds run in their own process."""

_QUANTIZERS = {
    "sq4u": faiss.ScalarQuantizer.QT_4bit_uniform,
    "sq6": faiss.ScalarQuantizer.QT_6bit,
    "sq8": faiss.ScalarQuantizer.QT_8bit,
    "bf16": faiss.ScalarQuantizer.QT_bf16,
    "fp16": faiss.ScalarQuantizer.QT_fp16,
}
_NARROW = {
    DataType.FLOAT16_VECTOR: faiss.ScalarQuantizer.QT_fp16,
    DataType.BFLOAT16_VECTOR: faiss.ScalarQuantizer.QT_bf16,
    DataType.INT8_VECTOR: faiss.ScalarQuantizer.QT_8bit_direct_signed,
}
_NARROW_UNIT = {
    DataType.FLOAT16_VECTOR: faiss.ScalarQuantizer.QT_fp16,
    DataType.BFLOAT16_VECTOR: faiss.ScalarQuantizer.QT_fp16,
    DataType.INT8_VECTOR: faiss.ScalarQuantizer.QT_8bit,
}
# faiss would compute these tables at opening, on the heap; they exceed the index and help single queries little.
_OPEN_FLAGS = faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_PQ_SKIP_SDC_TABLE | faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE
_GRAPHS = (params.HNSW, params.HNSW_SQ, params.HNSW_PQ)


def build(
    vectors: Array,
    build_type: str,
    build_params: Mapping[str, Any],
    metric: MetricType,
    threads: int,
    data_type: DataType = DataType.FLOAT_VECTOR,
) -> Any:
    """Build an index over vectors (n, dim) of `data_type`; the result can only be saved.

    HNSW and IVF_FLAT over narrow vectors hold equally narrow codes.
    """
    faiss.omp_set_num_threads(threads)
    data = as_float32(vectors)
    data = unit(data) if metric is MetricType.COSINE else np.ascontiguousarray(data)
    codes = _narrow_codes(data_type, metric)
    if build_type in _GRAPHS:
        return _build_graph(data, build_type, build_params, _faiss_metric(metric), codes)
    if build_type in params.BUILD_PARAMS and build_type != params.FLAT:
        return _build_lists(data, build_type, build_params, _faiss_metric(metric), codes)
    raise ValueError(f"{build_type} is not built")


def _narrow_codes(data_type: DataType, metric: MetricType) -> Any | None:
    """faiss's quantizer of the same width, None for float32.

    Unit vectors are not the stored numbers: FLOAT16 holds them more exactly than BFLOAT16, and int8 cannot hold them.
    """
    return (_NARROW_UNIT if metric is MetricType.COSINE else _NARROW).get(data_type)


def _faiss_metric(metric: MetricType) -> Any:
    return faiss.METRIC_L2 if metric is MetricType.L2 else faiss.METRIC_INNER_PRODUCT


def _nbits(build_params: Mapping[str, Any], row_count: int) -> int:
    """A code book cannot have more entries than rows to train it."""
    return min(int(build_params["nbits"]), row_count.bit_length() - 1)


def _build_graph(data: Array, build_type: str, build_params: Mapping[str, Any], metric: Any, codes: Any | None) -> Any:
    """The edges are always chosen by the exact vectors; only the data at the nodes differs."""
    dim, edges = data.shape[1], int(build_params["M"])
    graph = faiss.IndexHNSWFlat(dim, edges, metric)
    graph.hnsw.efConstruction = int(build_params["efConstruction"])
    graph.add(data)
    if build_type == params.HNSW:
        if codes is None:
            return graph
        coded = faiss.IndexHNSWSQ(dim, codes, edges, metric)
    elif build_type == params.HNSW_SQ:
        coded = faiss.IndexHNSWSQ(dim, _QUANTIZERS[build_params["sq_type"]], edges, metric)
    else:
        coded = faiss.IndexHNSWPQ(dim, int(build_params["m"]), edges, _nbits(build_params, len(data)), metric)
    storage = faiss.downcast_index(coded.storage)
    if build_type == params.HNSW_PQ:
        storage.pq.cp.min_points_per_centroid = 1
    storage.train(data)
    storage.add(data)
    coded.hnsw = graph.hnsw
    coded.ntotal, coded.is_trained = len(data), True
    return coded


def _build_lists(data: Array, build_type: str, build_params: Mapping[str, Any], metric: Any, codes: Any | None) -> Any:
    dim, nlist = data.shape[1], min(int(build_params["nlist"]), len(data))
    centroids = faiss.IndexFlat(dim, metric)
    if build_type == params.IVF_FLAT and codes is not None:
        index = faiss.IndexIVFScalarQuantizer(centroids, dim, nlist, codes, metric, False)  # codes are not of residuals
    elif build_type == params.IVF_FLAT:
        index = faiss.IndexIVFFlat(centroids, dim, nlist, metric)
    elif build_type == params.IVF_SQ8:
        index = faiss.IndexIVFScalarQuantizer(centroids, dim, nlist, faiss.ScalarQuantizer.QT_8bit, metric)
    elif build_type == params.IVF_PQ:
        index = faiss.IndexIVFPQ(centroids, dim, nlist, int(build_params["m"]), _nbits(build_params, len(data)), metric)
    else:
        pieces = dim // 2 if dim % 2 == 0 else dim
        index = faiss.IndexIVFPQFastScan(centroids, dim, nlist, pieces, 4, metric)
    index.cp.min_points_per_centroid = 1  # no warning on stderr if there are few rows
    if build_type in (params.IVF_PQ, params.SCANN):
        index.pq.cp.min_points_per_centroid = 1
    index.train(data)
    index.add(data)
    return index


def save(index: Any, path: Path) -> None:
    """Writes the index in faiss's format. The caller adds the footer and syncs."""
    faiss.write_index(index, str(path))


def memory_bytes(build_type: str, file_bytes: int, row_count: int) -> int:
    """The most bytes that an index will hold in memory, read from its file."""
    if build_type in _GRAPHS:
        return file_bytes
    return (2 if build_type == params.SCANN else 1) * file_bytes + 4 * row_count


def open_index(payload: memoryview, name: str, metric: MetricType, path: Path) -> VectorIndex:
    """`payload` must be verified first, since faiss trusts it. `name`: the index's type, for display.

    Raises DataIntegrityError, naming the file.
    """
    buffer = np.frombuffer(payload, np.uint8)
    reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(buffer), buffer.size)
    try:
        index = faiss.read_index(reader, _OPEN_FLAGS)
    except RuntimeError as error:
        raise DataIntegrityError(f"{path} is not an index that faiss can read: {error}") from error
    if isinstance(index, faiss.IndexHNSW):
        return HnswIndex(index, name, metric, buffer)
    if isinstance(index, faiss.IndexIVF):
        return IvfIndex(index, name, metric, buffer)
    raise DataIntegrityError(f"{path} holds a {type(index).__name__}, which Milvine does not write")
