"""Indexes of values answer the same as the columns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milvine.expr import evaluate
from milvine.expr.indexed import answer
from milvine.expr.predicate import And, Compare, Contains, In, Like, Not, Or, Predicate, Target, literal_set
from milvine.expr.tree import Comparator, ContainsMode
from milvine.index import postings, scalar
from milvine.index.scalar import ValueIndex
from milvine.index.term_index import TermIndex
from milvine.model.columns import ARROW_TYPES, NUMPY_DTYPES, Column, json_column
from milvine.model.json_paths import JsonPath, PathColumn, PathElements, extract, extract_elements
from milvine.model.types import DataType
from milvine.storage.segment_files import open_scalar_index, save_scalar_index

TEXTS = st.one_of(
    st.sampled_from(["", "a", "ab", "abc", "b", "\uffff", "\U0010ffff", "a\U0010ffff"]), st.text(max_size=3)
)
NUMBERS = {
    DataType.BOOL: st.booleans(),
    DataType.INT8: st.integers(-128, 127),
    DataType.INT64: st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1)),
    DataType.FLOAT: st.one_of(st.sampled_from([0.0, -0.0, 1.5, 0.1]), st.floats(width=32)),
    DataType.DOUBLE: st.one_of(st.sampled_from([0.0, -0.0, 1.5, 2.0**53]), st.floats()),
}
VALUES: dict[DataType, st.SearchStrategy[Any]] = {**NUMBERS, DataType.VARCHAR: TEXTS}
JSON_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1.0, 2.5, 2.0**53]),
    TEXTS,
)
ORDERED = (*Comparator,)
EQUALITY = (Comparator.EQ, Comparator.NE)


class Source:
    """One column under field id 1, and perhaps indexes of it."""

    def __init__(self, column: Column, indexes: dict[JsonPath, ValueIndex]) -> None:
        self.row_count = len(column)
        self._column = column
        self._indexes = indexes

    def column(self, field_id: int) -> Column:
        return self._column

    def json_path(self, field_id: int, path: JsonPath) -> PathColumn:
        assert self._column.paths is not None
        return self._column.paths.known(self.row_count, path) or extract(self._column.values, path)

    def json_elements(self, field_id: int, path: JsonPath, depth: int = 1) -> PathElements:
        return extract_elements(self._column.values, path)

    def value_index(self, field_id: int, path: JsonPath, has_elements: bool) -> ValueIndex | None:
        found = self._indexes.get(path)
        return found if found is not None and found.has_elements == has_elements else None

    def text_index(self, field_id: int, path: JsonPath) -> None:
        return None

    def term_index(self, field_id: int) -> TermIndex:
        raise AssertionError(f"field {field_id} has no terms")


@pytest.fixture(autouse=True, scope="module")
def lists_are_always_used() -> Iterator[None]:
    """Otherwise most of the small columns here would be scanned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postings, "LISTED_SHARE", 1.0)
        yield


@pytest.fixture(scope="module", params=[0, 32], ids=["lists", "bitmaps"])
def most_bitmaps(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postings, "MAX_BITMAPS", request.param)
        yield


def _decoded(indexes: dict[JsonPath, ValueIndex]) -> dict[JsonPath, ValueIndex]:
    decoded: dict[JsonPath, Any] = scalar.decode(*scalar.encode(indexes))
    return decoded


def _plain(data_type: DataType, values: list[Any]) -> Column:
    validity = np.array([v is not None for v in values], np.bool_)
    if data_type is DataType.VARCHAR:
        return Column(data_type, pa.array(["" if v is None else v for v in values], pa.string()), validity)
    return Column(data_type, np.array([0 if v is None else v for v in values], NUMPY_DTYPES[data_type]), validity)


def _comparison(target: Target, literals: st.SearchStrategy[Any], comparators: Any) -> st.SearchStrategy[Predicate]:
    some = st.lists(literals, min_size=1, max_size=4)
    return st.one_of(
        st.builds(Compare, st.just(target), st.sampled_from(comparators), literals),
        st.builds(lambda values: In(target, literal_set(values)), some),
    )


def _combined(simple: st.SearchStrategy[Predicate]) -> st.SearchStrategy[Predicate]:
    pairs = st.tuples(simple, simple)
    return st.one_of(simple, simple.map(Not), pairs.map(And), pairs.map(lambda both: Not(Or(both))))


LIKES = TEXTS.map(lambda text: text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%")


@pytest.mark.usefixtures("most_bitmaps")
@pytest.mark.parametrize("data_type", list(VALUES), ids=lambda t: t.name)
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_an_indexed_field_is_filtered_as_its_column(data_type: DataType, data: st.DataObject) -> None:
    values = VALUES[data_type]
    column = _plain(data_type, data.draw(st.lists(st.one_of(st.none(), values), min_size=1, max_size=40)))
    target = Target(1, data_type, is_nullable=True)
    literals = values
    if data_type.is_integer:
        literals = st.one_of(values, st.integers(-(2**63), 2**63 - 1), st.just(2**64))
    inside = values if data_type is not DataType.INT8 else st.integers(-300, 300)
    comparators = EQUALITY if data_type is DataType.BOOL else ORDERED
    simple = st.one_of(
        st.builds(Compare, st.just(target), st.sampled_from(comparators), literals),
        _comparison(target, inside, comparators),
    )
    if data_type is DataType.VARCHAR:
        simple = st.one_of(simple, LIKES.map(lambda pattern: Like(target, pattern)))
    predicate = data.draw(_combined(simple))
    indexed = Source(column, _decoded({(): scalar.index_field(column)}))
    assert evaluate(predicate, indexed).tolist() == evaluate(predicate, Source(column, {})).tolist()


@pytest.mark.usefixtures("most_bitmaps")
@pytest.mark.parametrize("element_type", list(VALUES), ids=lambda t: t.name)
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_indexed_elements_are_filtered_as_the_arrays(element_type: DataType, data: st.DataObject) -> None:
    values = VALUES[element_type]
    rows = data.draw(st.lists(st.one_of(st.none(), st.lists(values, max_size=5)), min_size=1, max_size=20))
    arrays = pa.array([row or [] for row in rows], pa.list_(ARROW_TYPES[element_type]))
    column = Column(DataType.ARRAY, arrays, np.array([row is not None for row in rows], np.bool_))
    target = Target(1, DataType.ARRAY, True, element_type=element_type)
    wanted = values if element_type is not DataType.INT8 else st.integers(-300, 300)
    literals = st.lists(wanted, max_size=4).map(literal_set)
    simple = st.builds(Contains, st.just(target), st.sampled_from(ContainsMode), literals)
    predicate = data.draw(_combined(simple))
    indexed = Source(column, _decoded({(): scalar.index_field(column)}))
    assert evaluate(predicate, indexed).tolist() == evaluate(predicate, Source(column, {})).tolist()


def _json(documents: list[Any]) -> Column:
    validity = np.array([d is not None for d in documents], np.bool_)
    return json_column(pa.array([orjson.dumps(d) for d in documents], pa.binary()), validity)


CASTS = ["BOOL", "DOUBLE", "VARCHAR", "JSON", "ARRAY_BOOL", "ARRAY_DOUBLE", "ARRAY_VARCHAR"]


@pytest.mark.usefixtures("most_bitmaps")
@pytest.mark.parametrize("cast", CASTS)
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_an_indexed_json_path_is_filtered_as_the_documents(cast: str, data: st.DataObject) -> None:
    values = st.one_of(JSON_VALUES, st.lists(JSON_VALUES, max_size=4))
    documents = st.one_of(st.none(), st.just({}), values.map(lambda v: {"a": v}), values.map(lambda v: {"a": {"b": v}}))
    column = _json(data.draw(st.lists(documents, min_size=1, max_size=20)))
    place: JsonPath = data.draw(st.sampled_from([("a",), ("a", "b"), ("a", 0)]))
    target = Target(1, DataType.JSON, True, path=place)
    literals = JSON_VALUES.filter(lambda v: v is not None)
    contains = st.builds(
        Contains, st.just(target), st.sampled_from(ContainsMode), st.lists(literals, max_size=3).map(literal_set)
    )
    ordered = st.builds(
        Compare, st.just(target), st.sampled_from(ORDERED), literals.filter(lambda v: type(v) is not bool)
    )
    likes = LIKES.map(lambda pattern: Like(target, pattern))
    predicate = data.draw(_combined(st.one_of(_comparison(target, literals, EQUALITY), ordered, likes, contains)))
    indexed = Source(column, _decoded(scalar.index_json(column, place, cast)))
    assert evaluate(predicate, indexed).tolist() == evaluate(predicate, Source(column, {})).tolist()


NUMBERS_IN_TEXTS = st.sampled_from(["5", "-1", "2.5", " 3x", "0x1", "1e999", "", "a", "٣"])


@pytest.mark.usefixtures("most_bitmaps")
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_indexed_numbers_in_texts_are_found_as_in_the_documents(data: st.DataObject) -> None:
    values = st.one_of(JSON_VALUES, NUMBERS_IN_TEXTS, st.lists(st.integers(0, 3), max_size=2))
    documents = st.one_of(st.none(), st.just({}), values.map(lambda v: {"a": v}))
    column = _json(data.draw(st.lists(documents, min_size=1, max_size=20)))
    target = Target(1, DataType.JSON, True, path=("a",), reads_numbers=True)
    literals = st.one_of(st.integers(-3, 5), st.sampled_from([2.5, 3.0, "5", "a", True]))
    ordered = st.builds(
        Compare, st.just(target), st.sampled_from(ORDERED), literals.filter(lambda v: type(v) is not bool)
    )
    predicate = data.draw(_combined(st.one_of(_comparison(target, literals, EQUALITY), ordered)))
    indexed = Source(column, _decoded({("a",): scalar.index_json_numbers(column, ("a",))}))
    assert evaluate(predicate, indexed).tolist() == evaluate(predicate, Source(column, {})).tolist()
    plain = Source(column, _decoded(scalar.index_json(column, ("a",), "DOUBLE")))
    assert evaluate(predicate, plain).tolist() == evaluate(predicate, Source(column, {})).tolist()


def test_numbers_in_texts_count_as_numbers_beside_numbers_only() -> None:
    texts = ["5", "5.", ".5", "-5", " +7e2x", "0x1A", "five", "", "1e999", "inf", "+-5"]
    values = [*texts, 3, 2.5, True, None, [5]]
    column = _json([{"a": value} for value in values])
    target = Target(1, DataType.JSON, True, path=("a",), reads_numbers=True)

    def found(comparator: Comparator, literal: Any) -> list[Any]:
        mask = evaluate(Compare(target, comparator, literal), Source(column, {}))
        return [value for value, is_found in zip(values, mask, strict=True) if is_found]

    assert found(Comparator.GE, -100) == ["5", "5.", ".5", "-5", " +7e2x", 3, 2.5]
    assert found(Comparator.EQ, 5) == ["5", "5."]
    assert found(Comparator.EQ, "5") == ["5"]
    assert found(Comparator.NE, 5) == [".5", "-5", " +7e2x", 3, 2.5]


def test_an_index_of_a_document_answers_for_its_paths() -> None:
    column = _json([{"a": {"b": n, "c": str(n)}} for n in range(50)])
    source = Source(column, scalar.index_json(column, ("a",), "JSON"))
    for key, value in (("b", 7), ("c", "7")):
        found = answer(Compare(Target(1, DataType.JSON, path=("a", key)), Comparator.EQ, value), source)
        assert found is not None
        assert np.flatnonzero(found[0]).tolist() == [7]


def test_an_index_declines_where_the_column_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postings, "LISTED_SHARE", 0.05)
    column = Column(DataType.INT64, np.arange(1000))
    source = Source(column, _decoded({(): scalar.index_field(column)}))
    target = Target(1, DataType.INT64)
    assert answer(Compare(target, Comparator.LT, 500), source) is None
    assert answer(Compare(target, Comparator.LT, 40), source) is not None
    assert answer(Compare(target, Comparator.NE, 50), source) is not None


def test_an_index_over_no_values_finds_nothing() -> None:
    for column in (_plain(DataType.VARCHAR, [None, None]), _plain(DataType.INT64, [None])):
        source = Source(column, _decoded({(): scalar.index_field(column)}))
        literal = "x" if column.data_type is DataType.VARCHAR else 1
        assert not evaluate(Compare(Target(1, column.data_type), Comparator.GE, literal), source).any()
    column = _plain(DataType.DOUBLE, [math.nan, 1.0])
    source = Source(column, _decoded({(): scalar.index_field(column)}))
    assert evaluate(Compare(Target(1, DataType.DOUBLE), Comparator.GE, -math.inf), source).tolist() == [False, True]


def test_an_index_read_from_its_file_is_the_one_written(tmp_path: Path) -> None:
    columns = {
        "text": _plain(DataType.VARCHAR, [f"t{n}" for n in range(100)] + [None]),
        "few": _plain(DataType.INT8, [1, 2, 3, None]),
        "elements": Column(DataType.ARRAY, pa.array([["a", "b"], [], ["a"]], pa.list_(pa.string()))),
    }
    indexes: dict[str, dict[JsonPath, ValueIndex]]
    indexes = {name: {(): scalar.index_field(column)} for name, column in columns.items()}
    indexes |= {cast: scalar.index_json(_json([{"a": [1, "x", True]}, {"a": 2}, {}]), ("a",), cast) for cast in CASTS}
    indexes["nothing"] = scalar.index_json(_json([{}]), ("a",), "JSON")
    for name, index in indexes.items():
        path = tmp_path / f"{name}.index"
        arrays, described = scalar.encode(index)
        assert save_scalar_index(path, arrays, described) == path.stat().st_size
        found, found_described, mapped = open_scalar_index(path, resident=True)
        assert found_described == described
        assert {k: list(v) for k, v in found.items()} == {k: list(v) for k, v in arrays.items()}
        assert mapped.payload_bytes < path.stat().st_size
        assert scalar.decode(found, found_described).keys() == index.keys()
