"""Named arrays in one file, read in place.

The file begins with the length of its head (8 bytes, little endian) and the head: JSON with the name, dtype, shape and
place of each array. The arrays follow, each at a multiple of 64 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from milvine.errors import DataIntegrityError
from milvine.index.base import Array

_ALIGNMENT = 64
_LENGTH_BYTES = 8


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Writes the file. The caller adds the footer and syncs."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    entries: list[tuple[str, str, list[int], int]] = []
    place = 0
    for name, array in contiguous.items():
        entries.append((name, array.dtype.str, list(array.shape), place))
        place = _aligned(place + array.nbytes)
    head = orjson.dumps(entries)
    start = _aligned(_LENGTH_BYTES + len(head))
    with path.open("wb") as file:
        file.write(len(head).to_bytes(_LENGTH_BYTES, "little") + head)
        for (_, _, _, place), array in zip(entries, contiguous.values(), strict=True):
            file.write(bytes(start + place - file.tell()))
            file.write(array.data)


def read_arrays(
    payload: memoryview, path: Path, index_type: str, check: Callable[[Mapping[str, Array]], None]
) -> dict[str, Array]:
    """Views into `payload`, by name. Raises DataIntegrityError, naming the file, also if they are not those of an index
    of this type, for which `check` raises KeyError or ValueError."""
    arrays = _views(payload, path)
    try:
        check(arrays)
    except (KeyError, ValueError) as error:
        raise DataIntegrityError(f"{path} does not hold a {index_type} index: {error}") from error
    return arrays


def _views(payload: memoryview, path: Path) -> dict[str, Array]:
    try:
        length = int.from_bytes(payload[:_LENGTH_BYTES], "little")
        entries: list[Any] = orjson.loads(payload[_LENGTH_BYTES : _LENGTH_BYTES + length])
        start = _aligned(_LENGTH_BYTES + length)
        return {
            name: np.frombuffer(payload, dtype, int(np.prod(shape)), start + place).reshape(shape)
            for name, dtype, shape, place in entries
        }
    except (TypeError, ValueError) as error:
        raise DataIntegrityError(f"{path} does not hold the arrays of an index: {error}") from error
