"""The index types of fields that are not vectors. A new type is a new module of `scalar_types/` and a line here."""

from __future__ import annotations

from milvine.index.scalar_type import ScalarType
from milvine.index.scalar_types import auto, bitmap, fmindex, inverted, ngram, stl_sort, terms, trie

SCALAR_TYPES: dict[str, ScalarType] = {
    found.name: found
    for found in (
        auto.TYPE,
        inverted.TYPE,
        stl_sort.TYPE,
        bitmap.TYPE,
        *trie.TYPES,
        ngram.TYPE,
        fmindex.TYPE,
    )
}
"""By name."""
BUILT_TYPES: dict[str, ScalarType] = {**SCALAR_TYPES, terms.TYPE.name: terms.TYPE}
"""Those of callers, and those that fields have by themselves."""
