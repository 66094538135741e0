"""IVF_FLAT: lists of the vectors themselves, as narrow as the column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import faiss

from milvine.index import dense
from milvine.index.lists_type import ListsType


class IvfFlat(ListsType):
    name = "IVF_FLAT"

    def lists(self, centroids: Any, nlist: int, data: dense.Prepared, build_params: Mapping[str, Any]) -> Any:
        dim = data.vectors.shape[1]
        if data.narrow is None:
            return faiss.IndexIVFFlat(centroids, dim, nlist, data.metric)
        is_of_residuals = False
        return faiss.IndexIVFScalarQuantizer(centroids, dim, nlist, data.narrow, data.metric, is_of_residuals)


TYPE = IvfFlat()
