"""Which of many terms are within a few edits of one: insert, delete or replace a character, or swap two neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_AT_ONCE = 1 << 22
"""So many characters are compared at a time, which bounds the memory."""

Array = np.ndarray[Any, Any]


def within_distance(terms: Any, wanted: str, distance: int) -> Array:
    """int64, ascending: the offsets in `terms` (StringArray) of those within `distance` edits of `wanted`.

    No part of a term is edited twice, so `ca` is three edits from `abc`, as in Milvus.
    """
    lengths = pc.utf8_length(terms).to_numpy()
    query = np.frombuffer(wanted.encode("utf-32-le"), np.uint32)
    found = [np.zeros(0, np.int64)]
    for length in range(max(0, len(query) - distance), len(query) + distance + 1):
        candidates = np.flatnonzero(lengths == length)
        step = max(1, _AT_ONCE // (length + 1))
        for start in range(0, len(candidates), step):
            block = candidates[start : start + step]
            characters = _characters(terms.take(pa.array(block)), length)
            found.append(block[_distances(characters, query, distance) <= distance])
    return np.sort(np.concatenate(found))


def _characters(texts: Any, length: int) -> Array:
    """uint32 (length, n): the characters of texts that all have this length."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, 4 * texts.offset)
    data = texts.buffers()[2]
    text = b"" if data is None else data.to_pybytes()[offsets[0] : offsets[-1]]
    flat = np.frombuffer(text.decode().encode("utf-32-le"), np.uint32)
    return np.ascontiguousarray(flat.reshape(len(texts), length).T)


def _distances(characters: Array, query: Array, most: int) -> Array:
    """The number of edits from each text to the query; `most + 1` stands for more.

    Row i of the usual table holds the distances of the first i characters of a text; only cells within `most` of the
    diagonal can matter.
    """
    length, count = characters.shape
    far = np.int8(most + 1)
    beyond = np.full(count, far, np.int8)
    before: dict[int, Array] = {}
    last = {j: np.full(count, j, np.int8) for j in range(min(most, len(query)) + 1)}
    for i in range(1, length + 1):
        now: dict[int, Array] = {0: np.full(count, min(i, far), np.int8)} if i <= most else {}
        for j in range(max(1, i - most), min(len(query), i + most) + 1):
            is_same = characters[i - 1] == query[j - 1]
            cell = last.get(j - 1, beyond) + ~is_same
            np.minimum(cell, last.get(j, beyond) + 1, out=cell)
            np.minimum(cell, now.get(j - 1, beyond) + 1, out=cell)
            if i > 1 and j > 1:
                is_swapped = (characters[i - 1] == query[j - 2]) & (characters[i - 2] == query[j - 1])
                np.minimum(cell, np.where(is_swapped, before.get(j - 2, beyond) + 1, far), out=cell)
            now[j] = np.minimum(cell, far).astype(np.int8)
        before, last = last, now
    return last.get(len(query), beyond)
