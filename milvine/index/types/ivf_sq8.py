"""IVF_SQ8: lists of codes of one byte per dimension."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import faiss

from milvine.index import dense
from milvine.index.lists_type import LISTS, ListsType
from milvine.index.params import REFINE


class IvfSq8(ListsType):
    name = "IVF_SQ8"
    params: ClassVar = {**LISTS, **REFINE}
    candidates_factor = 2

    def lists(self, centroids: Any, nlist: int, data: dense.Prepared, build_params: Mapping[str, Any]) -> Any:
        codes = faiss.ScalarQuantizer.QT_8bit
        return faiss.IndexIVFScalarQuantizer(centroids, data.vectors.shape[1], nlist, codes, data.metric)


TYPE = IvfSq8()
