"""Scalar indexes over the values of a column or of JSON paths: how they are built, written and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.index.postings import Array, Encoded, Postings, unpack
from milvine.index.term_index import TermIndex
from milvine.index.text_index import TextIndex
from milvine.model.columns import Column
from milvine.model.json_numbers import with_numbers
from milvine.model.json_paths import JsonKind, JsonPath, PathColumn, PathElements, dense, extract, extract_elements
from milvine.model.records import record
from milvine.model.types import DataType

_KINDS_OF_DTYPES = {"b": JsonKind.BOOL, "i": JsonKind.INT, "f": JsonKind.DOUBLE}
_ALL_KINDS = (JsonKind.BOOL, JsonKind.INT, JsonKind.DOUBLE, JsonKind.STRING)
CAST_KINDS: dict[str, tuple[JsonKind, ...]] = {
    "BOOL": (JsonKind.BOOL,),
    "DOUBLE": (JsonKind.INT, JsonKind.DOUBLE),
    "VARCHAR": (JsonKind.STRING,),
    "JSON": _ALL_KINDS,
}


@record
class ValueIndex:
    """The index of one column or path, separated by the kind of the values; an ordinary field has one kind.

    All values of the `covered` kinds are indexed; such a kind without postings has no row. `has_elements`: the values
    are array elements, and `arrays` is a packed bitmap of the rows that have an array. `reads_numbers`: texts that are
    numbers count as such.
    """

    row_count: int
    has_elements: bool
    covered: frozenset[JsonKind]
    by_kind: Mapping[JsonKind, Postings]
    known_bits: Mapping[JsonKind, Array]
    arrays: Array | None = None
    reads_numbers: bool = False

    def covers(self, kinds: Sequence[JsonKind]) -> bool:
        return self.covered.issuperset(kinds)

    def postings(self, kind: JsonKind) -> Postings | None:
        return self.by_kind.get(kind)

    def known(self, kinds: Sequence[JsonKind]) -> Array:
        """bool (n,): rows with a value of these kinds or, if values are elements, with an array. Only for JSON."""
        bits = [self.known_bits[k] for k in kinds if k in self.known_bits]
        if self.arrays is not None:
            bits = [self.arrays]
        if not bits:
            return np.zeros(self.row_count, np.bool_)
        return unpack(np.bitwise_or.reduce(bits, axis=0), self.row_count)


def index_field(column: Column) -> ValueIndex:
    """Index a field that is not JSON."""
    count, has_elements = len(column), column.data_type is DataType.ARRAY
    values: Any = column.values
    if has_elements:
        offsets = column.values.offsets.to_numpy()
        values = column.values.values.slice(offsets[0], offsets[-1] - offsets[0])
        if not pa.types.is_string(values.type):
            values = values.to_numpy(zero_copy_only=False)
        rows = np.repeat(np.arange(count), np.diff(offsets))
    elif column.validity is not None:
        rows = np.flatnonzero(column.validity)
        values = values[rows] if isinstance(values, np.ndarray) else values.take(pa.array(rows))
    else:
        rows = np.arange(count)
    kind = _KINDS_OF_DTYPES[values.dtype.kind] if isinstance(values, np.ndarray) else JsonKind.STRING
    postings = Postings.build(count, values, rows, is_single=not has_elements)
    return ValueIndex(count, has_elements, frozenset((kind,)), {kind: postings}, {})


def index_json_numbers(column: Column, path: JsonPath) -> ValueIndex:
    """Indexes the numbers of a JSON column at `path`, those in texts, too."""
    assert column.paths is not None
    found = with_numbers(column.paths.known(len(column), path) or extract(column.values, path))
    return replace(_index_kinds(found, CAST_KINDS["DOUBLE"]), reads_numbers=True)


def index_json(column: Column, path: JsonPath, cast: str) -> dict[JsonPath, ValueIndex]:
    """Indexes the values of a JSON column at `path`, by path, of the kinds that `cast` (a json_cast_type) names.

    The cast JSON also includes the paths below, as far as the column has them shredded.
    """
    assert column.paths is not None
    if cast.startswith("ARRAY_"):
        return {path: _index_elements(extract_elements(column.values, path), CAST_KINDS[cast.removeprefix("ARRAY_")])}
    found = {path: column.paths.known(len(column), path) or extract(column.values, path)}
    if cast == "JSON":
        found |= {p: dense(c) for p, c in column.paths.columns.items() if p[: len(path)] == path}
    return {p: _index_kinds(c, CAST_KINDS[cast]) for p, c in found.items()}


def _index_kinds(column: PathColumn, kinds: Sequence[JsonKind]) -> ValueIndex:
    postings: dict[JsonKind, Postings] = {}
    bits: dict[JsonKind, Array] = {}
    for kind in kinds:
        is_kind = column.kinds == kind
        rows = np.flatnonzero(is_kind)
        if len(rows):
            postings[kind] = Postings.build(len(column), _of_kind(column, kind, rows), rows, is_single=True)
            bits[kind] = np.packbits(is_kind)
    return ValueIndex(len(column), False, frozenset(kinds), postings, bits)


def _index_elements(elements: PathElements, kinds: Sequence[JsonKind]) -> ValueIndex:
    count = len(elements.is_array)
    row_of = np.repeat(np.arange(count), np.diff(elements.starts))
    postings: dict[JsonKind, Postings] = {}
    for kind in kinds:
        places = np.flatnonzero(elements.elements.kinds == kind)
        if len(places):
            values = _of_kind(elements.elements, kind, places)
            postings[kind] = Postings.build(count, values, row_of[places], is_single=False)
    return ValueIndex(count, True, frozenset(kinds), postings, {}, np.packbits(elements.is_array))


def _of_kind(column: PathColumn, kind: JsonKind, places: Array) -> Any:
    if kind is JsonKind.STRING:
        assert column.strings is not None
        return column.strings.take(pa.array(places))
    numbers = column.doubles if kind is JsonKind.DOUBLE else column.integers
    assert numbers is not None
    return numbers[places].astype(np.int8) if kind is JsonKind.BOOL else numbers[places]


ScalarIndex = ValueIndex | TextIndex | TermIndex
_TEXTS, _TERMS = "texts", "terms"
"""Mark the descriptions of a TextIndex and a TermIndex."""


def encode(indexes: Mapping[JsonPath, ScalarIndex]) -> tuple[Encoded, list[Any]]:
    """Arrays, and a description for `decode` that can be written as JSON."""
    arrays: Encoded = {}
    described: list[Any] = []
    for number, (path, index) in enumerate(indexes.items()):
        if isinstance(index, TextIndex | TermIndex):
            index.encode(str(number), arrays)
            described.append([list(path), _TEXTS if isinstance(index, TextIndex) else _TERMS, index.row_count])
            continue
        for kind, postings in index.by_kind.items():
            postings.encode(f"{number}.{int(kind)}", arrays)
        for kind, bits in index.known_bits.items():
            arrays[f"{number}.{int(kind)}.known"] = bits
        if index.arrays is not None:
            arrays[f"{number}.arrays"] = index.arrays
        described.append(
            [list(path), index.has_elements, sorted(map(int, index.covered)), index.row_count, index.reads_numbers]
        )
    return arrays, described


def decode(arrays: Encoded, described: list[Any]) -> dict[JsonPath, ScalarIndex]:
    """The inverse of `encode`, on views of the same arrays. Raises KeyError, TypeError or ValueError for others."""
    indexes: dict[JsonPath, ScalarIndex] = {}
    is_json = any(name.endswith((".known", ".arrays")) for name in arrays)
    for number, (path, *rest) in enumerate(described):
        if rest[0] in (_TEXTS, _TERMS):
            kind = TextIndex if rest[0] == _TEXTS else TermIndex
            indexes[tuple(path)] = kind.decode(str(number), arrays, rest[1])
            continue
        has_elements, covered, row_count, *reads_numbers = rest
        kinds = [JsonKind(kind) for kind in covered]
        there = [kind for kind in kinds if f"{number}.{int(kind)}.values" in arrays]
        indexes[tuple(path)] = ValueIndex(
            row_count,
            has_elements,
            frozenset(kinds),
            {
                k: Postings.decode(
                    f"{number}.{int(k)}",
                    arrays,
                    row_count,
                    is_single=not has_elements,
                    may_decline=not (is_json or has_elements),
                )
                for k in there
            },
            {k: arrays[name] for k in there if (name := f"{number}.{int(k)}.known") in arrays},
            arrays.get(f"{number}.arrays"),
            any(reads_numbers),
        )
    return indexes
