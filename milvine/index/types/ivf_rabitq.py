"""IVF_RABITQ: lists of codes of a few bits per dimension, one by default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import faiss

from milvine.index import dense
from milvine.index.base import Effort
from milvine.index.lists_type import LISTS, ListsType
from milvine.index.params import REFINE, IntParam, searched_int
from milvine.model.types import DataType

_QUERY_BITS = 8
"""Bits of a query's element. faiss compares queries that are not quantised 20 to 50 times slower and finds the same."""


class IvfRabitq(ListsType):
    name = "IVF_RABITQ"
    params: ClassVar = {**LISTS, "rbq_bits": IntParam(1, 1, 9), **REFINE}
    candidates_factor = 16

    def lists(self, centroids: Any, nlist: int, data: dense.Prepared, build_params: Mapping[str, Any]) -> Any:
        bits, owns_lists = build_params["rbq_bits"], True
        index = faiss.IndexIVFRaBitQ(centroids, data.vectors.shape[1], nlist, data.metric, owns_lists, bits)
        index.qb = _QUERY_BITS
        return index

    def effort(self, build_params: Mapping[str, Any], params: Mapping[str, Any], k: int, data_type: DataType) -> Effort:
        """`rbq_bits_query` is checked, but queries always have 8 bits."""
        if "rbq_bits_query" in params:
            searched_int(params, "rbq_bits_query", 8, low=0)
        return super().effort(build_params, params, k, data_type)


TYPE = IvfRabitq()
