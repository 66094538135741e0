"""Filters over the terms of texts, which only an index of the terms answers."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from milvine.expr.predicate import PhraseMatch, SimilarTermMatch, TermMatch
from milvine.model.columns import Column

Mask = np.ndarray[Any, np.dtype[np.bool_]]


class TermIndex(Protocol):
    """The terms of a field's texts; each answer is a mask over the rows. Queries are StringArrays of terms."""

    def with_terms(self, wanted: Any, at_least: int) -> Mask: ...

    def with_similar(self, wanted: Any, distance: int) -> Mask: ...

    def with_phrase(self, wanted: Any, offsets: np.ndarray[Any, Any], slop: int) -> Mask: ...


class TermSource(Protocol):
    def column(self, field_id: int) -> Column: ...

    def term_index(self, field_id: int) -> TermIndex: ...


def answer_terms(predicate: TermMatch | SimilarTermMatch | PhraseMatch, source: TermSource) -> tuple[Mask, Mask | None]:
    """Rows that match, and rows with a text (None: all); a row must be in both."""
    field_id = predicate.target.field_id
    index = source.term_index(field_id)
    match predicate:
        case TermMatch(_, terms, at_least):
            matches = index.with_terms(terms, at_least)
        case SimilarTermMatch(_, terms, distance):
            matches = index.with_similar(terms, distance)
        case PhraseMatch(_, terms, offsets, slop):
            matches = index.with_phrase(terms, offsets, slop)
    return matches, source.column(field_id).validity
