"""SPARSE_WAND: Milvus's former name for an inverted index over sparse vectors."""

from __future__ import annotations

from typing import ClassVar

from milvine.index.types.sparse_inverted_index import SparseInvertedIndex


class SparseWand(SparseInvertedIndex):
    name = "SPARSE_WAND"
    auto: ClassVar = {}


TYPE = SparseWand()
