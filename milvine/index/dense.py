"""What all index types on faiss over dense vectors share: the vectors as faiss takes them, narrow codes, files.

A COSINE index holds unit vectors under the inner product.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np

from milvine.errors import DataIntegrityError, ParameterInvalid
from milvine.index.scan import Array, unit
from milvine.model.records import record
from milvine.model.types import DataType, MetricType
from milvine.model.vectors.conversion import as_float32

faiss.omp_set_num_threads(1)
"""One thread per search, since requests run in parallel. Builds run in their own process."""

FLOATS = frozenset({DataType.FLOAT_VECTOR, DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR})
DENSE = FLOATS | {DataType.INT8_VECTOR}
METRICS = frozenset({MetricType.L2, MetricType.IP, MetricType.COSINE})

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


@record
class Prepared:
    """Vectors as faiss takes them: float32 (n, dim), unit vectors under COSINE, and faiss's metric.

    `narrow`: faiss's quantizer of the width of the column, None for float32.
    """

    vectors: Array
    metric: Any
    narrow: Any | None


def prepare(vectors: Array, metric: MetricType, data_type: DataType, threads: int) -> Prepared:
    """The vectors (n, dim) of a column for a build on `threads` threads.

    Unit vectors are not the stored numbers: FLOAT16 holds them more exactly than BFLOAT16, and int8 cannot hold them.
    """
    faiss.omp_set_num_threads(threads)
    wide, is_cosine = as_float32(vectors), metric is MetricType.COSINE
    return Prepared(
        unit(wide) if is_cosine else np.ascontiguousarray(wide),
        faiss.METRIC_L2 if metric is MetricType.L2 else faiss.METRIC_INNER_PRODUCT,
        (_NARROW_UNIT if is_cosine else _NARROW).get(data_type),
    )


def code_bits(nbits: int, row_count: int) -> int:
    """A code book cannot have more entries than rows to train it."""
    return min(nbits, row_count.bit_length() - 1)


def check_pieces(dim: int, m: int, vector: str) -> None:
    """`vector`: how Milvus names the vector of this type, "the vector" or "a vector"."""
    if dim % m:
        raise ParameterInvalid(
            f"The dimension of {vector} (dim) should be a multiple of the number of subquantizers (m). "
            f"Dimension:{dim}, m:{m}"
        )


def save(index: Any, path: Path) -> None:
    """Writes an index in faiss's format."""
    faiss.write_index(index, str(path))


def read_copy(payload: memoryview, path: Path, expected: type) -> Any:
    """As `read`, with all of the index on the heap."""
    position = 0

    def more(size: int) -> bytes:
        nonlocal position
        position += size
        return bytes(payload[position - size : position])

    return _checked(faiss.read_index, faiss.PyCallbackIOReader(more), 0, path, expected)


def read(payload: memoryview, path: Path, expected: type, read_index: Any = faiss.read_index) -> tuple[Any, Array]:
    """The index of class `expected` that lies in `payload`, read in place, and the memory that must outlive it.

    `read_index`: faiss's function for the family of the class. `payload` must be verified first, since faiss trusts it.
    Raises DataIntegrityError, naming the file.
    """
    buffer = np.frombuffer(payload, np.uint8)
    reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(buffer), buffer.size)
    return _checked(read_index, reader, _OPEN_FLAGS, path, expected), buffer


def _checked(read_index: Any, reader: Any, flags: int, path: Path, expected: type) -> Any:
    try:
        index = read_index(reader, flags)
    except RuntimeError as error:
        raise DataIntegrityError(f"{path} is not an index that faiss can read: {error}") from error
    if not isinstance(index, expected):
        raise DataIntegrityError(f"{path} holds a {type(index).__name__}, which Milvine does not write")
    return index
