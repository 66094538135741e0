"""From values to rows: one structure for every type of scalar index but those of texts, read in place from its file.

The distinct values of a column, or of a JSON path, are kept sorted, with the rows of each value: one list of row
offsets, value by value, or a packed bitmap per value if there are few values, since bitmaps are then smaller. So `==`
and `in` are binary searches, and a range or a prefix is a run of consecutive values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Array = np.ndarray[Any, Any]
Encoded = dict[str, Any]
"""numpy and pyarrow arrays by name, of different lengths: the contents of a file."""

MAX_BITMAPS = 32
"""With more values, bitmaps take more bytes than lists of rows."""
LISTED_SHARE = 0.05
"""Setting more than this fraction of the rows takes longer than comparing a whole column of numbers."""


class Postings:
    """The rows of each value, of `row_count` rows in all.

    values: numpy (m,), ascending, NaN last and once; or StringArray (m,), ascending. starts: int32 (m + 1,) into rows,
    int32, ascending for each value; or bitmaps uint8 (m, bytes), bit by row. `is_single`: a row has at most one value.
    `may_decline`: there is a plain column of the same values.
    """

    def __init__(
        self,
        row_count: int,
        values: Any,
        starts: Array | None,
        rows: Array,
        bitmaps: Array | None,
        *,
        is_single: bool,
        may_decline: bool = False,
    ) -> None:
        self.row_count = row_count
        self.values = values
        self.starts = starts
        self.rows = rows
        self.bitmaps = bitmaps
        self.is_single = is_single
        self.may_decline = may_decline and isinstance(values, np.ndarray)
        self._searched = values  # without NaN, which a search never finds
        if isinstance(values, np.ndarray) and values.dtype.kind == "f" and len(values) and np.isnan(values[-1]):
            self._searched = values[:-1]

    @classmethod
    def build(cls, row_count: int, values: Any, rows: Array, *, is_single: bool) -> Postings:
        """`values` (k,) numpy or StringArray and the row of each, ascending."""
        if isinstance(values, np.ndarray):
            if values.dtype == np.bool_:
                values = values.view(np.int8)
            order = np.argsort(values, kind="stable")
            ordered = values[order]
            is_first = np.ones(len(ordered), np.bool_)
            np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
            if values.dtype.kind == "f":
                is_first[1:] &= ~np.isnan(ordered[:-1])
            distinct: Any = ordered[is_first]
            codes = np.cumsum(is_first) - 1
        else:
            encoded = values.dictionary_encode()
            by_text = pc.array_sort_indices(encoded.dictionary)
            distinct = encoded.dictionary.take(by_text)
            places = np.empty(len(distinct), np.int32)
            places[by_text.to_numpy()] = np.arange(len(distinct), dtype=np.int32)
            codes = places[encoded.indices.to_numpy()]
            order = np.argsort(codes, kind="stable")
            codes = codes[order]
        rows = rows[order].astype(np.int32)
        if not is_single and len(rows):
            again = np.zeros(len(rows), np.bool_)
            again[1:] = (codes[1:] == codes[:-1]) & (rows[1:] == rows[:-1])
            codes, rows = codes[~again], rows[~again]
        counts = np.bincount(codes, minlength=len(distinct))
        starts = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
        if len(distinct) > MAX_BITMAPS:
            return cls(row_count, distinct, starts, rows, None, is_single=is_single)
        bits = np.zeros((len(distinct), row_count), np.bool_)
        bits[codes, rows] = True
        return cls(row_count, distinct, None, rows[:0], np.packbits(bits, axis=1), is_single=is_single)

    def between(self, low: Any, high: Any, with_low: bool, with_high: bool) -> Array | None:
        """bool (n,): rows with a value in the interval; a bound of None is open. Returns None if scanning the column
        would be faster."""
        first = 0 if low is None else self._place(low, "left" if with_low else "right")
        last = len(self._searched) if high is None else self._place(high, "right" if with_high else "left")
        return self._run(first, max(first, last))

    def starting_with(self, prefix: str) -> Array | None:
        """Rows with a text that has the prefix."""
        first = self._place(prefix, "left")
        following = _after_prefix(prefix)
        return self._run(first, len(self.values) if following is None else self._place(following, "left"))

    def among(self, wanted: Any) -> Array:
        """Rows with any of the values (numpy, or StringArray)."""
        codes = self._codes(wanted)
        mask = np.zeros(self.row_count, np.bool_)
        if self.bitmaps is not None:
            return self._unpacked(np.bitwise_or, codes) if len(codes) else mask
        mask[self._rows_of(codes)] = True
        return mask

    def with_all(self, wanted: Any) -> Array:
        """Rows that have all of the values, which are distinct and at least one."""
        codes = self._codes(wanted)
        if len(codes) < len(wanted):
            return np.zeros(self.row_count, np.bool_)
        if self.bitmaps is not None:
            return self._unpacked(np.bitwise_and, codes)
        has_all: Array = np.bincount(self._rows_of(codes), minlength=self.row_count) == len(codes)
        return has_all

    def _place(self, value: Any, side: Any) -> int:
        if not isinstance(self.values, np.ndarray):
            return int(pc.search_sorted(self.values, pa.array([value], pa.string()), side=side)[0].as_py())
        if self.values.dtype.kind == "i":
            limits = np.iinfo(self.values.dtype)
            if not limits.min <= value <= limits.max:
                return 0 if value < limits.min else len(self.values)
        with np.errstate(over="ignore"):
            return int(np.searchsorted(self._searched, self.values.dtype.type(value), side=side))

    def _codes(self, wanted: Any) -> Array:
        """The positions of the given values that are in the index, each once."""
        found: Array
        if not isinstance(self.values, np.ndarray):
            places = pc.search_sorted(self.values, wanted).to_numpy().astype(np.int64)
            inside = np.flatnonzero(places < len(self.values))
            same = pc.equal(self.values.take(pa.array(places[inside])), wanted.take(pa.array(inside)))
            found = places[inside][same.to_numpy(zero_copy_only=False)]
            return found
        if self.values.dtype.kind == "i" and wanted.dtype.kind == "i":
            limits = np.iinfo(self.values.dtype)
            wanted = wanted[(wanted >= limits.min) & (wanted <= limits.max)]
        with np.errstate(over="ignore"):
            wanted = np.unique(wanted.astype(self.values.dtype))
        places = np.searchsorted(self._searched, wanted)
        is_inside = places < len(self._searched)
        places, wanted = places[is_inside], wanted[is_inside]
        found = places[self._searched[places] == wanted]
        return found

    def _run(self, first: int, last: int) -> Array | None:
        """Rows of the values between two positions."""
        if self.bitmaps is not None:
            codes = np.arange(first, last)
            return self._unpacked(np.bitwise_or, codes) if len(codes) else np.zeros(self.row_count, np.bool_)
        assert self.starts is not None
        begin, end = int(self.starts[first]), int(self.starts[last])
        # The complement is shorter to write. It also has rows without a value, which callers do not use.
        is_inverse = self.is_single and end - begin > len(self.rows) // 2
        effort = len(self.rows) - (end - begin) if is_inverse else end - begin
        if self.may_decline and effort > LISTED_SHARE * self.row_count:
            return None
        mask = np.full(self.row_count, is_inverse)
        if is_inverse:
            mask[self.rows[:begin]] = False
            mask[self.rows[end:]] = False
        else:
            mask[self.rows[begin:end]] = True
        return mask

    def _rows_of(self, codes: Array) -> Array:
        assert self.starts is not None
        begins = self.starts[codes].astype(np.int64)
        counts = self.starts[codes + 1] - begins
        steps = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        rows: Array = self.rows[np.repeat(begins, counts) + steps]
        return rows

    def _unpacked(self, combine: Any, codes: Array) -> Array:
        assert self.bitmaps is not None
        return unpack(combine.reduce(self.bitmaps[codes], axis=0), self.row_count)

    def encode(self, prefix: str, into: Encoded) -> None:
        into[f"{prefix}.values"] = self.values
        if self.bitmaps is not None:
            into[f"{prefix}.bitmaps"] = self.bitmaps.reshape(-1)
        else:
            into[f"{prefix}.starts"], into[f"{prefix}.rows"] = self.starts, self.rows

    @classmethod
    def decode(cls, prefix: str, arrays: Encoded, row_count: int, **flags: bool) -> Postings:
        values = arrays[f"{prefix}.values"]
        if f"{prefix}.bitmaps" in arrays:
            bitmaps = arrays[f"{prefix}.bitmaps"].reshape(len(values), -(-row_count // 8))
            return cls(row_count, values, None, np.empty(0, np.int32), bitmaps, **flags)
        return cls(row_count, values, arrays[f"{prefix}.starts"], arrays[f"{prefix}.rows"], None, **flags)


def unpack(bits: Array, row_count: int) -> Array:
    return np.unpackbits(bits, count=row_count).view(np.bool_)


def _after_prefix(prefix: str) -> str | None:
    """The least text greater than all texts that start with `prefix`, or None. Texts are ordered by code point,
    which is the order of their bytes; surrogates are not characters."""
    while prefix:
        code = ord(prefix[-1]) + 1
        if code <= 0x10FFFF:
            return prefix[:-1] + chr(0xE000 if 0xD800 <= code < 0xE000 else code)
        prefix = prefix[:-1]
    return None
