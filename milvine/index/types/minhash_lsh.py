"""MINHASH_LSH: the bands of MinHash signatures in vectors of bits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from milvine.errors import ParameterInvalid, UnexpectedError
from milvine.index.array_file import read_arrays, write_arrays
from milvine.index.base import Effort, VectorIndex
from milvine.index.exact import Exact
from milvine.index.index_type import DEFAULT_NPROBE, IndexType
from milvine.index.minhash import Bands, SharedBands, build, check_arrays, comparison
from milvine.index.params import INT32_MAX, BoolParam, FloatParam, IntParam, Param, searched_bool, searched_int
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType, MetricType

_WIDTH, _BANDS = "mh_element_bit_width", "mh_lsh_band"
_BY_SIMILARITY, _DEPTH = "mh_search_with_jaccard", "refine_k"


class MinhashLsh(IndexType):
    """A search finds the rows that share a band with the query, all at the score 1, or with `mh_search_with_jaccard`
    at the share of equal hashes. Few or growing rows are scanned, and then all with an equal hash are found."""

    name = "MINHASH_LSH"
    data_types = frozenset({DataType.BINARY_VECTOR})
    metrics = frozenset({MetricType.MHJACCARD})
    params: ClassVar[Mapping[str, Param]] = {
        _WIDTH: IntParam(8, 8, 256),
        _BANDS: IntParam(1, -INT32_MAX - 1, INT32_MAX),
        "mh_lsh_aligned_block_size": IntParam(4096, 4096, INT32_MAX),
        "mh_lsh_bloom_false_positive_prob": FloatParam(0.01, 0.0, 1.0),
        "with_raw_data": BoolParam(False),
    }
    """The last three are checked and kept: the file has no blocks, look-ups are exact, and the column has the vectors.
    `mmap.enabled` says where the keys are, whatever `mh_lsh_code_in_mem` is."""
    auto: ClassVar = {DataType.BINARY_VECTOR: {_WIDTH: 8, _BANDS: 1}}

    def check(self, field: FieldSchema, build_params: Mapping[str, Any]) -> None:
        width = build_params[_WIDTH]
        if width % 8:
            raise ParameterInvalid(f"param '{_WIDTH}' ({width}) should be a multiple of 8")
        if (field.dim or 0) % width:
            raise ParameterInvalid(
                f"dim ({field.dim}) of field {field.name} should be a multiple of '{_WIDTH}' ({width})"
            )

    def build(
        self, vectors: Any, build_params: Mapping[str, Any], metric: MetricType, data_type: DataType, threads: int
    ) -> Any:
        return build(vectors, Bands.of(vectors.shape[1], build_params[_WIDTH] // 8, build_params[_BANDS]))

    def save(self, built: Any, path: Path) -> None:
        write_arrays(path, built)

    def open(self, payload: memoryview, metric: MetricType, path: Path) -> VectorIndex:
        return SharedBands(read_arrays(payload, path, self.name, check_arrays), self.name, len(payload))

    def memory_bytes(self, file_bytes: int, row_count: int, dim: int) -> int:
        return file_bytes

    def effort(self, build_params: Mapping[str, Any], params: Mapping[str, Any], k: int, data_type: DataType) -> Effort:
        """`refine_k` is the number of candidates that are measured."""
        if "radius" in params:
            raise UnexpectedError("minhash not support range search.")
        if str(params.get("iterator", "")) in ("True", "true"):
            raise UnexpectedError("minhash does not support iterator.")
        searched_bool(params, "mh_lsh_batch_search")  # queries are always searched together
        candidates = self.usual_candidates(k, data_type)
        if _DEPTH in params:
            candidates = max(candidates, searched_int(params, _DEPTH, INT32_MAX))
        return Effort(candidates, DEFAULT_NPROBE, candidates)

    def exact(self, build_params: Mapping[str, Any], params: Mapping[str, Any], field: FieldSchema) -> Exact:
        by_similarity = searched_bool(params, _BY_SIMILARITY)
        return comparison(build_params[_WIDTH] // 8, build_params[_BANDS], by_similarity=by_similarity)


TYPE = MinhashLsh()
