"""Models of boosted trees in file resources, kept while they are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.analysis.dictionaries import Dictionaries
from milvine.errors import AnalyzerInvalid, ParameterInvalid
from milvine.model.records import record
from milvine.segment.boosted_tree_files import boosted_trees_of
from milvine.segment.boosted_trees import BoostedTrees
from milvine.sized_cache import SizedCache

Array = np.ndarray[Any, Any]
_models: SizedCache[int, BoostedTrees] = SizedCache("tree_models", 64 << 20)
"""By the number of the resource, which is never used again."""


@record
class TreeScores:
    """The expression of a chain: what the model in a file resource says of rows whose features are the inputs, in
    their order. The file is looked up when the chain runs, as in Milvus."""

    files: Dictionaries
    name: str
    is_raw: bool

    def values(self, query: Array, inputs: Sequence[Any]) -> Any:
        trees = _trees_of(self.files, self.name)
        if trees.feature_count and len(inputs) != trees.feature_count:
            text = f"xgboost: expected {trees.feature_count} feature columns, got {len(inputs)}"
            raise ParameterInvalid(text)
        features = np.empty((len(query), len(inputs)), np.float32)
        for place, array in enumerate(inputs):
            with np.errstate(over="ignore"):
                features[:, place] = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return pa.array(trees.scores(features, self.is_raw))


def _trees_of(files: Dictionaries, name: str) -> BoostedTrees:
    """As in Milvus, only a file that was added with the ending .ubj is a model.

    Raises ParameterInvalid and TreeModelInvalid.
    """
    resource = files.find(name)
    if resource is None or not resource.path.lower().endswith(".ubj"):
        raise _not_found(name)
    known = _models.get(resource.resource_id)
    if known is not None:
        return known
    try:
        content = files.content(resource)
    except AnalyzerInvalid:  # removed meanwhile
        raise _not_found(name) from None
    found = boosted_trees_of(content)
    _models.put(resource.resource_id, found, found.bytes_used)
    return found


def _not_found(name: str) -> ParameterInvalid:
    return ParameterInvalid(f'xgboost: file resource "{name}" not found')
