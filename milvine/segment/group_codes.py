"""Codes for the groups of the rows of one segment or chunk, made at their first use.

A filter of groups then looks at each group once and not at each row, and finds the rows of a few groups without a look
at the others.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.model.records import record
from milvine.segment.derived import Derived
from milvine.sized_cache import SizedCache

Array = np.ndarray[Any, Any]
_MAX_CODE = 2**31


@record
class GroupCodes:
    """codes: integers (n,), equal for rows of one group. values: an Arrow array for each field, with the values of the
    groups at their codes."""

    codes: Array
    values: tuple[Any, ...]

    @property
    def bytes_used(self) -> int:
        return self.codes.nbytes + sum(int(array.nbytes) for array in self.values)


@record
class GroupRows:
    """The rows, group by group: those of code c are rows[ends[c] : ends[c + 1]], in order."""

    rows: Array
    ends: Array

    @property
    def bytes_used(self) -> int:
        return int(self.rows.nbytes + self.ends.nbytes)

    def of(self, codes: Array) -> Array:
        """The rows of these groups."""
        starts, stops = self.ends[codes].tolist(), self.ends[codes + 1].tolist()
        pieces = [self.rows[start:stop] for start, stop in zip(starts, stops, strict=True)]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int32)


group_codes: SizedCache[tuple[int, object], GroupCodes | GroupRows] = SizedCache("group_codes", 128 << 20)


class KnownGroups:
    """Codes by what groups the rows: of one owner."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: Derived[GroupCodes | GroupRows] = Derived(group_codes)

    def find(self, grouped_by: Hashable, values: Callable[[], Sequence[Any]]) -> GroupCodes:
        """`values`: makes an Arrow array (n,) for each field."""
        return self._known.find(grouped_by, lambda: coded(values()))

    def rows(self, grouped_by: Hashable, groups: GroupCodes) -> GroupRows:
        """The rows of `groups`, which `find` returned for the same key."""
        return self._known.find(("rows", grouped_by), lambda: rows_by_group(groups))


def coded(values: Sequence[Any]) -> GroupCodes:
    """values: an Arrow array (n,) for each field. A row without a value belongs to the group of NULL."""
    if len(values) == 1:
        encoded = values[0].dictionary_encode(null_encoding="encode")
        return GroupCodes(encoded.indices.to_numpy(), (encoded.dictionary,))
    _, first, codes = np.unique(mixed_codes(values), return_index=True, return_inverse=True)
    rows = pa.array(first)
    return GroupCodes(codes.astype(np.int32), tuple(array.take(rows) for array in values))


def rows_by_group(groups: GroupCodes) -> GroupRows:
    counts = np.bincount(groups.codes, minlength=len(groups.values[0]))
    ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
    return GroupRows(np.argsort(groups.codes, kind="stable").astype(np.int32), ends)


def mixed_codes(values: Sequence[Any]) -> Array:
    """int64 (n,), equal where all values are equal."""
    return mixed([_encoded(array) for array in values])


def _encoded(array: Any) -> tuple[Array, int]:
    encoded = array.dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy().astype(np.int64), max(1, len(encoded.dictionary))


def mixed(parts: Sequence[tuple[Array, int]]) -> Array:
    """One code of several, each below its bound."""
    codes, bound = parts[0]
    for more, more_bound in parts[1:]:
        if bound * more_bound > _MAX_CODE:
            distinct, codes = np.unique(codes, return_inverse=True)
            bound = len(distinct)
        codes, bound = codes * more_bound + more, bound * more_bound
    return codes
