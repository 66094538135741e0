"""Sparse vectors as three arrays, and their forms in messages and in JSON.

In a message each vector is bytes: pairs of an index (uint32) and a value (float32), little-endian, by index. In JSON it
is `{"1": 0.5, "100": 0.3}` or `{"indices": [1, 100], "values": [0.5, 0.3]}`, in any order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from milvine.errors import ParameterInvalid
from milvine.model.json_text import go_type, json_kind
from milvine.model.records import record

Array = np.ndarray[Any, Any]
_PAIR = np.dtype([("index", "<u4"), ("value", "<f4")])
_NO_INDEX = 2**32 - 1
"""The first number that is not an index."""
_LARGEST_VALUE = float(np.finfo(np.float32).max)
_KEY = re.compile(r"0[xX](_?[0-9a-fA-F])+|0[bB](_?[01])+|0[oO](_?[0-7])+|(?P<octal>0(_?[0-7])+)|0|[1-9](_?[0-9])*")
"""What Go's ParseUint takes for a number."""


@record
class SparseVectors:
    """Vector i has `indices` (uint32, ascending, each once) and `values` (float32) from `offsets[i]` to
    `offsets[i + 1]`. `offsets` is int64 (n + 1,) and begins with 0.
    """

    offsets: Array
    indices: Array
    values: Array

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        return int(self.offsets.nbytes + self.indices.nbytes + self.values.nbytes)

    @property
    def sizes(self) -> Array:
        """int64 (n,): the number of values of each vector."""
        return np.diff(self.offsets)

    @property
    def dim(self) -> int:
        """The largest index and 1; 0 without values."""
        return int(self.indices.max()) + 1 if len(self.indices) else 0

    def __getitem__(self, rows: slice | Array) -> SparseVectors:
        """The vectors of a slice (a view), of row offsets in their order, or of a bool mask."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step != 1:
                return self[np.arange(start, stop, step)]
            offsets = self.offsets[start : max(start, stop) + 1]
            first, last = offsets[0], offsets[-1]
            return SparseVectors(offsets - first, self.indices[first:last], self.values[first:last])
        if rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        starts = self.offsets[rows]
        sizes = self.offsets[rows + 1] - starts
        offsets = _offsets(sizes)
        places = np.repeat(starts - offsets[:-1], sizes) + np.arange(offsets[-1])
        return SparseVectors(offsets, self.indices[places], self.values[places])


def empty_vectors(row_count: int) -> SparseVectors:
    """Vectors without values."""
    return SparseVectors(np.zeros(row_count + 1, np.int64), np.zeros(0, np.uint32), np.zeros(0, np.float32))


def join(pieces: Sequence[SparseVectors]) -> SparseVectors:
    """The vectors of all pieces, one after the other."""
    return SparseVectors(
        _offsets(np.concatenate([piece.sizes for piece in pieces])),
        np.concatenate([piece.indices for piece in pieces]),
        np.concatenate([piece.values for piece in pieces]),
    )


def spread(vectors: SparseVectors, validity: Array) -> SparseVectors:
    """The vectors at the rows of bool (n,) `validity`, and vectors without values at the others."""
    sizes = np.zeros(len(validity), np.int64)
    sizes[validity] = vectors.sizes
    return SparseVectors(_offsets(sizes), vectors.indices, vectors.values)


def decode(contents: Sequence[bytes]) -> SparseVectors:
    """The vectors of a message. Raises ParameterInvalid with Milvus's text about the first vector that is wrong."""
    lengths = np.fromiter(map(len, contents), np.int64, len(contents))
    broken = np.flatnonzero(lengths % _PAIR.itemsize)
    if len(broken):
        decode(contents[: broken[0]])
        raise ParameterInvalid(f"invalid data length in sparse float vector: {lengths[broken[0]]}")
    pairs = np.frombuffer(b"".join(contents), _PAIR)
    indices, values = np.ascontiguousarray(pairs["index"]), np.ascontiguousarray(pairs["value"])
    vectors = SparseVectors(_offsets(lengths // _PAIR.itemsize), indices, values)
    check(vectors)
    return vectors


def encode(vectors: SparseVectors) -> list[bytes]:
    """The vectors as in a message."""
    pairs = np.empty(len(vectors.indices), _PAIR)
    pairs["index"], pairs["value"] = vectors.indices, vectors.values
    content = pairs.tobytes()
    ends = (_PAIR.itemsize * vectors.offsets).tolist()
    return [content[start:end] for start, end in pairwise(ends)]


def check(vectors: SparseVectors) -> None:
    """Raises ParameterInvalid with Milvus's text about the first index or value that is wrong."""
    indices, values = vectors.indices, vectors.values
    is_first = np.zeros(len(indices) + 1, np.bool_)
    is_first[vectors.offsets] = True
    unsorted = np.zeros(len(indices), np.bool_)
    unsorted[1:] = (indices[1:] <= indices[:-1]) & ~is_first[1:-1]
    wrong = (indices == _NO_INDEX) | unsorted | ~np.isfinite(values) | (values < 0)
    if not wrong.any():
        return
    place = int(wrong.argmax())
    value = float(values[place])
    if indices[place] == _NO_INDEX:
        raise ParameterInvalid("invalid index in sparse float vector: must be less than 2^32-1")
    if unsorted[place]:
        raise ParameterInvalid("unsorted or same indices in sparse float vector")
    if not np.isfinite(value):
        text = "NaN" if np.isnan(value) else ("+Inf" if value > 0 else "-Inf")
        raise ParameterInvalid(f"value '{text}' is not a number or infinity")
    raise ParameterInvalid("negative value in sparse float vector")


def decode_json(given: Iterable[object]) -> SparseVectors:
    """The vectors of decoded JSON values. Raises ValueError with Milvus's text about the first that is wrong."""
    sizes: list[int] = []
    indices: list[int] = []
    values: list[float] = []
    try:
        for vector in given:
            some = _members(vector)
            sizes.append(len(some[0]))
            indices += some[0]
            values += some[1]
    except ValueError:
        _sorted_vectors(sizes, indices, values)
        raise
    return _sorted_vectors(sizes, indices, values)


def encode_json(vectors: SparseVectors) -> list[dict[str, Any]]:
    """Each vector as an object of its values (numpy's float32, which orjson writes) by index."""
    keys, values = list(map(str, vectors.indices.tolist())), list(vectors.values)
    bounds = vectors.offsets.tolist()
    return [dict(zip(keys[start:stop], values[start:stop], strict=True)) for start, stop in pairwise(bounds)]


def _offsets(sizes: Array) -> Array:
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return offsets


def _sorted_vectors(sizes: list[int], indices: list[int], values: list[float]) -> SparseVectors:
    """Checked vectors. Raises ValueError."""
    numbers = np.array(indices, np.uint32)
    order = np.lexsort((numbers, np.repeat(np.arange(len(sizes)), sizes)))
    with np.errstate(over="ignore"):
        narrow = np.array(values, np.float64).astype(np.float32)
    vectors = SparseVectors(_offsets(np.array(sizes, np.int64)), numbers[order], narrow[order])
    try:
        check(vectors)
    except ParameterInvalid as error:
        raise ValueError(error.message) from error
    return vectors


def _members(vector: object) -> tuple[list[int], list[float]]:
    """Indices and values of a JSON value, as given."""
    if vector is None:
        return [], []
    if not isinstance(vector, dict):
        raise ValueError(f"json: cannot unmarshal {json_kind(vector)} into Go value of type map[string]interface {{}}")
    indices, values = vector.get("indices"), vector.get("values")
    if isinstance(indices, list) and isinstance(values, list):
        found = list(map(_index, indices)), list(map(_value, values))
        if len(indices) != len(values):
            raise _invalid("indices and values length mismatch")
        return found
    if isinstance(indices, list) or isinstance(values, list):
        raise _invalid("invalid JSON input")
    pairs = [(_index_of_key(key), _value(value)) for key, value in vector.items()]
    return [index for index, _ in pairs], [value for _, value in pairs]


def _index_of_key(key: str) -> int:
    match = _KEY.fullmatch(key)
    if match is None:
        raise ValueError(f"strconv.ParseUint: parsing {json.dumps(key, ensure_ascii=False)}: invalid syntax")
    index = int(key.replace("_", ""), 8 if match["octal"] else 0)
    if index > _NO_INDEX:
        raise ValueError(f'strconv.ParseUint: parsing "{key}": value out of range')
    return index


def _index(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid(f"invalid index type in JSON: {go_type(value)}")
    number = _as_float(value)
    if number != int(number) or not -(2**63) <= number < 2**63:
        raise _invalid(f"invalid index in JSON: {_go_number(number)}")
    if number >= _NO_INDEX:
        raise _invalid(f"index too large in JSON: {int(number)}")
    return int(number) & _NO_INDEX


def _value(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid(f"invalid value type in JSON: {go_type(value)}")
    number = _as_float(value)
    if number > _LARGEST_VALUE:
        raise _invalid(f"value too large in JSON: {_go_number(number)}")
    return number


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"json: cannot unmarshal number {value} into Go value of type float64") from error


def _invalid(text: str) -> ValueError:
    return ValueError(ParameterInvalid(text).message)


def _go_number(value: float) -> str:
    """A float64 as Go prints it by %v."""
    if value == 0 or 1e-4 <= abs(value) < 1e21:
        return str(np.format_float_positional(value, trim="-"))
    return repr(value)
