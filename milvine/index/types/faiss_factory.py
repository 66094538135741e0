"""FAISS: an index that faiss's factory makes of a text, such as `IVF64,PQ8x4,RFlat`; over bits, `BIVF64`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import faiss
import numpy as np

from milvine.errors import ParameterInvalid, UnexpectedError, excerpt
from milvine.index import dense
from milvine.index.any_faiss import AnyFaissIndex
from milvine.index.base import Array, Effort, VectorIndex
from milvine.index.binary_graph import BinaryHnsw, save_graph
from milvine.index.hnsw import HnswIndex
from milvine.index.index_type import DEFAULT_NPROBE, IndexType
from milvine.index.ivf import IvfIndex
from milvine.index.lists_type import max_empty
from milvine.index.params import INT32_MAX, TextParam, number
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType, MetricType

_NAME = "faiss_index_name"
_NUMBER, _BITS = r"[1-9]\d{0,4}", "(1[0-2]|[1-9])"
_PQ = f"PQ{_NUMBER}(x{_BITS})?(fs|fsr)?"
_SQ = "SQ(4|6|8|fp16|bf16)"
# faiss does not check numbers: a zero ends the process and large ones take all memory.
_ALLOWED = re.compile(
    f"((OPQ{_NUMBER}(_{_NUMBER})?|PCAR?{_NUMBER}|L2norm),)*"
    f"((IVF{_NUMBER}(_HNSW{_NUMBER})?,)?(Flat|{_PQ}|{_SQ}|RaBitQ)|HNSW{_NUMBER}(,Flat|,{_PQ}|_{_PQ}|,{_SQ}|_{_SQ})?)"
    "(,RFlat|,Refine\\(Flat\\))?"
)
_ALLOWED_BINARY = re.compile(f"BFlat|BIVF{_NUMBER}(_HNSW{_NUMBER})?|BHNSW{_NUMBER}")
_PARTS = {"nprobe": "IVF", "efSearch": "HNSW", "k_factor": "R"}
"""The part of the text that a search parameter belongs to."""


class FaissFactory(IndexType):
    name = "FAISS"
    data_types = frozenset({DataType.FLOAT_VECTOR, DataType.BINARY_VECTOR})
    metrics = dense.METRICS | {MetricType.HAMMING}
    params: ClassVar = {_NAME: TextParam()}
    candidates_factor = 4

    def check(self, field: FieldSchema, build_params: Mapping[str, Any]) -> None:
        text = build_params[_NAME]
        try:
            is_binary = field.data_type is DataType.BINARY_VECTOR
            if not (_ALLOWED_BINARY if is_binary else _ALLOWED).fullmatch(text):
                raise ValueError(text)
            if is_binary:
                faiss.index_binary_factory(field.dim or 0, text)
            else:
                faiss.index_factory(field.dim or 0, text, faiss.METRIC_L2)
        except (RuntimeError, ValueError) as error:
            raise ParameterInvalid(f"invalid {_NAME}: {excerpt(text)}") from error

    def build(
        self, vectors: Any, build_params: Mapping[str, Any], metric: MetricType, data_type: DataType, threads: int
    ) -> Any:
        if data_type is DataType.BINARY_VECTOR:
            return _built_binary(vectors, build_params[_NAME], threads)
        data = dense.prepare(vectors, metric, data_type, threads)
        index = faiss.index_factory(data.vectors.shape[1], build_params[_NAME], data.metric)
        index.train(data.vectors)
        index.add(data.vectors)
        return index

    def save(self, built: Any, path: Path) -> None:
        (save_graph if isinstance(built, faiss.IndexBinary) else dense.save)(built, path)

    def open(self, payload: memoryview, metric: MetricType, path: Path) -> VectorIndex:
        if metric is MetricType.HAMMING:
            return self._open_binary(payload, metric, path)
        index, buffer = dense.read(payload, path, faiss.Index)
        if isinstance(index, faiss.IndexHNSW):
            return HnswIndex(index, self.name, metric, buffer)
        if isinstance(index, faiss.IndexIVF):
            return IvfIndex(index, self.name, metric, buffer)
        return AnyFaissIndex(index, self.name, metric, buffer)

    def _open_binary(self, payload: memoryview, metric: MetricType, path: Path) -> VectorIndex:
        index, buffer = dense.read(payload, path, faiss.IndexBinary, faiss.read_index_binary)
        is_graph = isinstance(index, faiss.IndexBinaryHNSW)
        return (BinaryHnsw if is_graph else AnyFaissIndex)(index, self.name, metric, buffer)

    def memory_bytes(self, file_bytes: int, row_count: int, dim: int) -> int:
        """faiss copies some classes of indexes to the heap."""
        return 2 * file_bytes + 4 * row_count

    def effort(self, build_params: Mapping[str, Any], params: Mapping[str, Any], k: int, data_type: DataType) -> Effort:
        given = {name: self._searched(build_params[_NAME], name, params[name]) for name in _PARTS if name in params}
        candidates = (
            max(int(given.get("efSearch", 0)), k) if "efSearch" in given else self.usual_candidates(k, data_type)
        )
        candidates = math.ceil(min(candidates * given.get("k_factor", 1), INT32_MAX))
        nprobe = int(given.get("nprobe", DEFAULT_NPROBE))
        return Effort(candidates, nprobe, candidates, max_empty=max_empty(params))

    def _searched(self, factory: str, name: str, value: object) -> float:
        try:
            found = number(name, value)
        except UnexpectedError:
            raise UnexpectedError(f"faiss search param '{name}' expects a number") from None
        if not any(part.removeprefix("B").startswith(_PARTS[name]) for part in factory.split(",")):
            raise UnexpectedError(f"faiss search param '{name}' is not supported by index {factory}")
        if not 1 <= found <= INT32_MAX:
            raise UnexpectedError(f"faiss search param '{name}' ({found:g}) should be in range [1, {INT32_MAX}]")
        return found


def _built_binary(vectors: Array, factory: str, threads: int) -> Any:
    faiss.omp_set_num_threads(threads)
    index = faiss.index_binary_factory(8 * vectors.shape[1], factory)
    if isinstance(index, faiss.IndexBinaryIVF):
        index.cp.min_points_per_centroid = 1  # no warning on stderr if there are few rows
    contiguous = np.ascontiguousarray(vectors)
    index.train(contiguous)
    index.add(contiguous)
    return index


TYPE = FaissFactory()
