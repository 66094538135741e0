"""How often terms are in the rows of segments, for the weights of a BM25 search."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import add

import numpy as np

from milvine.index import scan_terms
from milvine.index.inverted_terms import TermIndex
from milvine.index.term_queries import TermStatistics
from milvine.segment.rows import Array, RowSet


def term_statistics(row_sets: Iterable[RowSet], field_id: int, terms: Array) -> TermStatistics:
    """Of all rows, alive or not, and these terms (uint32, ascending)."""
    nothing = TermStatistics(0, 0.0, np.zeros(len(terms), np.int64))
    return reduce(add, (_of_one(rows, field_id, terms) for rows in row_sets), nothing)


def _of_one(rows: RowSet, field_id: int, terms: Array) -> TermStatistics:
    index = rows.index(field_id)
    if isinstance(index, TermIndex):
        return index.statistics(terms)
    return scan_terms.statistics(*rows.vectors(field_id), terms)
