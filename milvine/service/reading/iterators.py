"""Iterators over a search's hits: the parameters of a step, and its batch."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np

from milvine.errors import ParameterInvalid, ParameterMissing
from milvine.index.by_distance import Band
from milvine.model.records import record
from milvine.model.types import MetricType
from milvine.service.reading.ann_params import TRUE

_PREFIX = "parse iterator v2 info failed: "


def is_iterator(params: Mapping[str, Any]) -> bool:
    return str(params.get("iterator", "")) in ("True", "true")


def check_collection_id(params: Mapping[str, Any], collection_id: int) -> None:
    """An iterator sends the collection id of its first page, so that a later page reads no other of the same name."""
    given = str(params.get("collection_id", ""))
    asked = int(given) if is_iterator(params) and given.isdecimal() else 0
    if asked and asked != collection_id:
        raise ParameterInvalid(
            f"collection id:{asked} in the request is not consistent to that in the search context,"
            f"alias or database may have been changed: {collection_id}"
        )


@record
class IteratorV2:
    """One step of a search iterator, for which the server keeps no state. `last_bound` is the score of the last
    returned row."""

    token: str
    batch_size: int
    last_bound: np.float32 | None

    def beyond(self, within: Band | None, metric: MetricType) -> Band | None:
        """The band after the last bound.

        Never None: every step computes distances alike, so that a row is on one side of each bound.
        """
        if self.last_bound is None:
            return within or Band(np.float32(-np.inf), np.float32(np.inf))
        low = np.nextafter(-self.last_bound if metric.larger_is_nearer else self.last_bound, np.float32(np.inf))
        if within is None:
            return Band(low, np.float32(np.inf))
        return Band(max(low, within.low), within.high)

    def bound_after(self, scores: np.ndarray[Any, Any], metric: MetricType) -> float:
        """The last bound that the next step must send."""
        if len(scores):
            return float(scores[-1])
        if self.last_bound is not None:
            return float(self.last_bound)
        largest = float(np.finfo(np.float32).max)
        return largest if metric.larger_is_nearer else -largest


def iterator_v2(params: Mapping[str, Any], offset: int, nq: int, max_batch: int) -> IteratorV2 | None:
    """None unless `search_iter_v2` is requested."""
    if str(params.get("search_iter_v2", "")) not in TRUE:
        return None
    if not is_iterator(params):
        raise ParameterMissing(_PREFIX + "both iterator and search_iter_v2 must be set in the SDK")
    if offset > 0:
        raise ParameterInvalid(
            _PREFIX + "Setting an offset is not permitted when using a search iterator v2", expected="", actual=""
        )
    if nq != 1:
        raise ParameterInvalid(f"{_PREFIX}search iterator v2 takes one vector, but nq is {nq}")
    return IteratorV2(_token(params), _batch_size(params, max_batch), _last_bound(params))


def _token(params: Mapping[str, Any]) -> str:
    given = str(params.get("search_iter_id", "") or "")
    if not given:
        return str(uuid.uuid4())
    try:
        uuid.UUID(given)
    except ValueError:
        raise ParameterInvalid(_PREFIX + "invalid token format") from None
    return given


def _batch_size(params: Mapping[str, Any], max_batch: int) -> int:
    given = str(params.get("search_iter_batch_size", "") or "")
    if not given:
        raise ParameterMissing(_PREFIX + "batch size is required")
    try:
        size = int(given)
    except ValueError:
        raise ParameterInvalid(f'{_PREFIX}batch size is invalid, "{given}" is no integer') from None
    if not 1 <= size <= max_batch:
        raise ParameterInvalid(
            f"{_PREFIX}batch size is invalid, it should be in range [1, {max_batch}], but got {size}"
        )
    return size


def _last_bound(params: Mapping[str, Any]) -> np.float32 | None:
    given = str(params.get("search_iter_last_bound", "") or "")
    if not given:
        return None
    try:
        with np.errstate(over="ignore"):
            return np.float32(float(given))
    except ValueError:
        raise ParameterInvalid(f'{_PREFIX}failed to parse input last bound, "{given}" is no number') from None
