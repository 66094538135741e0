"""Indexes of pieces of texts: what they answer is what the texts would have answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milvine.expr import evaluate, regex
from milvine.expr.errors import FilterError
from milvine.expr.indexed_texts import answer_texts
from milvine.expr.like import check_pattern
from milvine.expr.predicate import And, Like, Not, Or, Predicate, Regex, Target
from milvine.index import scalar, text_index
from milvine.index.term_index import TermIndex
from milvine.index.text_index import TextIndex, index_json_texts, index_texts
from milvine.model.columns import Column, json_column
from milvine.model.json_paths import JsonPath, PathColumn, extract
from milvine.model.types import DataType
from milvine.storage.segment_files import open_scalar_index, save_scalar_index

LETTERS = "ab\0é北😀%_\\\n.(^"
REGEX_FORMS = ["{}", "{}+", "{}*b", "a?{}", "({})?", "({}|b)", "{}|b", "[ab]{}", "(?i){}", "a{2}{}", "{}\\d*"]
TEXTS = st.one_of(
    st.text(LETTERS, max_size=12),
    st.text(max_size=5),
    st.sampled_from(["", "abab" * 50, "北京大学", "a\0", "aaaa", "\U0010ffff\U0010ffff"]),
)


class Source:
    """One column under field id 1, and perhaps an index of its texts, or of those at the path `a`."""

    def __init__(self, column: Column, index: TextIndex | None = None) -> None:
        self.row_count = len(column)
        self._column = column
        self._index = index

    def column(self, field_id: int) -> Column:
        return self._column

    def json_path(self, field_id: int, path: JsonPath) -> PathColumn:
        return extract(self._column.values, path)

    def json_elements(self, field_id: int, path: JsonPath, depth: int = 1) -> Any:
        raise NotImplementedError

    def value_index(self, field_id: int, path: JsonPath, has_elements: bool) -> None:
        return None

    def text_index(self, field_id: int, path: JsonPath) -> TextIndex | None:
        return self._index

    def term_index(self, field_id: int) -> TermIndex:
        raise AssertionError(f"field {field_id} has no terms")


@pytest.fixture(autouse=True, scope="module", params=[1 << 24, 3], ids=["at once", "in steps"])
def places_are_always_used(request: pytest.FixtureRequest) -> Iterator[None]:
    """Else most of the few texts here would be looked at themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_index, "LISTED_SHARE", 1e9)
        patch.setattr(text_index, "_FEW", 0)
        patch.setattr(text_index, "_AT_ONCE", request.param)
        yield


def texts_column(texts: list[str | None]) -> Column:
    validity = np.array([t is not None for t in texts], np.bool_)
    return Column(DataType.VARCHAR, pa.array([t or "" for t in texts], pa.string()), validity)


def decoded(index: TextIndex, path: JsonPath = ()) -> TextIndex:
    found = scalar.decode(*scalar.encode({path: index}))[path]
    assert isinstance(found, TextIndex)
    return found


def is_pattern(pattern: str) -> bool:
    try:
        check_pattern(pattern, 0)
    except FilterError:
        return False
    return True


def is_regex(pattern: str) -> bool:
    try:
        regex.check_regex(pattern, 0)
    except FilterError:
        return False
    return True


def escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "\\%_" else c for c in text)


@st.composite
def predicates(draw: st.DrawFn, texts: list[str | None], target: Target) -> Predicate:
    """Patterns of pieces that the texts have, more often than not."""
    known = draw(st.sampled_from([t for t in texts if t] or ["a"]))
    begin = draw(st.integers(0, len(known) - 1))
    piece = known[begin : begin + draw(st.integers(1, 12))]
    likes = st.one_of(
        st.sampled_from(["%{}%", "{}%", "%{}", "{}", "%{}_", "_%{}%", "%{}%{}%"]).map(
            lambda form: form.replace("{}", escaped(piece))
        ),
        st.text(LETTERS + "%%_", max_size=8).filter(is_pattern),
    )
    quoted = "".join(f"\\{c}" if c in "\\.(^" else c for c in piece)
    regexes = st.one_of(
        st.sampled_from(REGEX_FORMS).map(lambda form: form.replace("{}", quoted)).filter(is_regex),
        st.text("abé.*+?()|[]{}2^$\\dQE", max_size=8).filter(is_regex),
    )
    simple = st.one_of(likes.map(lambda p: Like(target, p)), regexes.map(lambda p: Regex(target, p)))
    one, other = draw(simple), draw(simple)
    return draw(st.sampled_from([one, Not(one), And((one, Not(other))), Or((Not(one), other))]))


@settings(deadline=None, max_examples=150)
@given(data=st.data(), texts=st.lists(st.one_of(st.none(), TEXTS), min_size=1, max_size=30))
def test_indexed_texts_are_matched_as_those_of_the_column(data: st.DataObject, texts: list[str | None]) -> None:
    column = texts_column(texts)
    predicate = data.draw(predicates(texts, Target(1, DataType.VARCHAR, is_nullable=True)))
    indexed = Source(column, decoded(index_texts(column)))
    assert evaluate(predicate, indexed).tolist() == evaluate(predicate, Source(column)).tolist()


@settings(deadline=None, max_examples=50)
@given(data=st.data(), texts=st.lists(st.one_of(st.none(), TEXTS), min_size=1, max_size=20))
def test_indexed_texts_at_a_json_path_are_matched_as_in_the_documents(
    data: st.DataObject, texts: list[str | None]
) -> None:
    others = st.sampled_from([None, {}, {"a": 1}, {"a": ["ab"]}, {"b": "ab"}])
    documents = [data.draw(others) if t is None else {"a": t} for t in texts]
    validity = np.array([d is not None for d in documents], np.bool_)
    column = json_column(pa.array([orjson.dumps(d) for d in documents], pa.binary()), validity)
    predicate = data.draw(predicates(texts, Target(1, DataType.JSON, True, path=("a",))))
    indexed = Source(column, decoded(index_json_texts(column, ("a",)), ("a",)))
    assert evaluate(predicate, indexed).tolist() == evaluate(predicate, Source(column)).tolist()


def test_a_slice_of_texts_is_indexed_as_its_copy() -> None:
    texts = pa.array(["北abc", "xabcd", "", "bcd", "abcde"], pa.string())
    column = Column(DataType.VARCHAR, texts.slice(1, 3))
    found = index_texts(column).rows(column.values, ["bcd"])
    assert found is not None
    assert found.tolist() == [0, 2]


def test_rows_are_few_before_their_texts_are_looked_at() -> None:
    column = texts_column([f"the stadium number {n}" for n in range(500)])
    index = index_texts(column)
    for piece, count in (("stadium", 500), ("number 17", 11), ("er 499", 1), ("17", 15), ("park", 0), ("q", 0)):
        rows = index.rows(column.values, [piece])
        assert rows is not None
        assert len(rows) == count, piece


@pytest.mark.parametrize(
    ("pattern", "pieces"),
    [
        ("stad.um", ["stad", "um"]),
        (r"a\.b+c*d", ["a.b", "d"]),
        ("colou?r", ["colo", "r"]),
        ("x(yz)+w", ["x", "w"]),
        ("x(?:y|z)w", ["x", "w"]),
        ("(?i)ab", []),
        ("ab(?i:cd)", []),
        ("ab|cd", []),
        (r"\Qa.b\E", []),
        (r"\x61b", []),
        (r"[^]a]b[[:alpha:]c]d\d{2}e{3}f", ["b", "d", "f"]),
        ("a{b", ["a{b"]),
    ],
)
def test_a_regular_expression_requires_only_pieces_that_every_match_has(pattern: str, pieces: list[str]) -> None:
    regex.check_regex(pattern, 0)
    assert regex.pieces_of(pattern) == pieces


def test_an_index_declines_where_most_rows_have_the_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_index, "LISTED_SHARE", 0.25)
    column = texts_column([f"the {n}" for n in range(1000)])
    source = Source(column, index_texts(column))
    target = Target(1, DataType.VARCHAR)
    for pattern in ("%the%", "%", "____%", ""):
        assert answer_texts(Like(target, pattern), source) is None
    found = answer_texts(Like(target, "%the%99%"), source)
    assert found is not None
    assert np.flatnonzero(found[0]).tolist() == [n for n in range(1000) if "99" in str(n)]


def test_an_index_of_texts_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.index"
    column = texts_column(["stadium", None, "park"])
    arrays, described = scalar.encode({(): index_texts(column)})
    assert save_scalar_index(path, arrays, described) == path.stat().st_size
    found, found_described, _ = open_scalar_index(path, resident=True)
    index = scalar.decode(found, found_described)[()]
    assert isinstance(index, TextIndex)
    assert index.rows(column.values, ["adiu"]).tolist() == [0]  # type: ignore[union-attr]


def test_no_texts_have_no_places() -> None:
    column = texts_column([None, ""])
    assert not evaluate(Like(Target(1, DataType.VARCHAR, True), "%ab%"), Source(column, index_texts(column))).any()
