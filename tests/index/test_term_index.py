"""Indexes of the terms of texts, compared with a slow and obvious search of random texts."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from milvine.analysis.terms import Terms
from milvine.index.edit_distance import within_distance
from milvine.index.term_index import TermIndex, index_terms

WORD = st.text("abé日", min_size=1, max_size=2)
TEXTS = st.lists(st.lists(WORD, max_size=8), max_size=12)
QUERY = st.lists(WORD, max_size=4)


def _block(texts: list[list[str]]) -> Terms:
    counts = [len(text) for text in texts]
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    positions = np.concatenate([np.zeros(0, np.int32), *(np.arange(n, dtype=np.int32) for n in counts)])
    tokens = pa.array([word for text in texts for word in text], pa.string())
    return Terms(offsets, tokens, positions, positions, positions, positions)


def _index(texts: list[list[str]]) -> TermIndex:
    half = len(texts) // 2
    index = index_terms([_block(texts[:half]), _block(texts[half:])])
    arrays: dict[str, Any] = {}
    index.encode("0", arrays)
    return TermIndex.decode("0", arrays, len(texts))


def _slop(query: list[str], text: list[str]) -> float:
    """By how much the shifts of the words of a phrase differ at least."""
    shifts = [[at - place for at, word in enumerate(text) if word == wanted] for place, wanted in enumerate(query)]
    return min((max(chosen) - min(chosen) for chosen in product(*shifts)), default=float("inf"))


@settings(max_examples=80, deadline=None)
@given(TEXTS, QUERY, st.integers(1, 5))
def test_rows_have_as_many_of_the_terms_as_wanted(texts: list[list[str]], query: list[str], at_least: int) -> None:
    found = _index(texts).with_terms(pa.array(query, pa.string()), at_least)
    assert found.tolist() == [sum(word in text for word in query) >= at_least for text in texts]


@settings(max_examples=80, deadline=None)
@given(TEXTS, QUERY, st.integers(0, 5))
def test_a_phrase_is_found_within_its_slop(texts: list[list[str]], query: list[str], slop: int) -> None:
    found = _index(texts).with_phrase(pa.array(query, pa.string()), np.arange(len(query), dtype=np.int32), slop)
    assert found.tolist() == [bool(query) and _slop(query, text) <= slop for text in texts]


def test_a_slop_never_joins_the_words_of_two_rows() -> None:
    index = _index([["a"], ["b"], ["b", "x", "a"]])
    found = index.with_phrase(pa.array(["a", "b"]), np.arange(2, dtype=np.int32), 2**32 - 1)
    assert found.tolist() == [False, False, True]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.text("abcé日", max_size=6), unique=True, max_size=30), st.text("abcé日", max_size=6))
def test_terms_within_a_distance_are_those_of_the_textbook(terms: list[str], wanted: str) -> None:
    for distance in (0, 1, 2):
        found = within_distance(pa.array(terms, pa.string()), wanted, distance)
        assert found.tolist() == [i for i, term in enumerate(terms) if _edits(term, wanted) <= distance]


def test_similar_terms_are_those_of_any_word_of_the_query() -> None:
    index = _index([["allergy"], ["allergic"], ["apple"], []])
    assert index.with_similar(pa.array(["alergy", "aple"]), 1).tolist() == [True, False, True, False]
    assert index.with_similar(pa.array(["ballergyz"]), 2).tolist() == [True, False, False, False]


def _edits(one: str, other: str) -> int:
    """Edits by the textbook: insert, delete, replace, and swap two neighbours, which counts once."""
    table = [[i + j for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i, j in product(range(1, len(one) + 1), range(1, len(other) + 1)):
        is_other = one[i - 1] != other[j - 1]
        table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + is_other)
        if i > 1 and j > 1 and (one[i - 1], one[i - 2]) == (other[j - 2], other[j - 1]):
            table[i][j] = min(table[i][j], table[i - 2][j - 2] + 1)
    return table[-1][-1]


def test_a_phrase_of_rare_words_is_found_among_many_rows() -> None:
    texts = [["x"]] * 1000
    texts[3], texts[700], texts[701] = ["x", "a", "b"], ["a", "x", "b"], ["b", "a"]
    index = index_terms([_block(texts)])
    offsets = np.arange(2, dtype=np.int32)
    found = [np.flatnonzero(index.with_phrase(pa.array(["a", "b"]), offsets, slop)).tolist() for slop in (0, 1, 2)]
    assert found == [[3], [3, 700], [3, 700, 701]]
