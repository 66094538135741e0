"""Search parameters beyond the index's own: the band of a range search, hints, ignore_growing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from milvine.errors import ParameterInvalid, UnexpectedError
from milvine.index.by_distance import Band
from milvine.index.params import number as searched_number
from milvine.model.types import MetricType

TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


def ignores_growing(params: Mapping[str, Any]) -> bool:
    text = str(params.get("ignore_growing", "False"))
    if text not in TRUE | FALSE:
        raise ParameterInvalid("parse ignore growing field failed")
    return text in TRUE


def check_range(params: Mapping[str, Any], has_groups: bool) -> None:
    """The proxy's checks, before the metric is known."""
    if "range_filter" in params and "radius" not in params:
        raise ParameterInvalid(
            "range_filter requires radius to be set; range_filter alone is not a valid range search parameter",
            expected="range_filter",
            actual="",
        )
    if "radius" in params and has_groups:
        raise ParameterInvalid("Not allowed to do range-search when doing search-group-by", expected="", actual="")


def check_hints(params: Mapping[str, Any]) -> None:
    """Costs decide how to filter here; a range search ignores hints."""
    hint = params.get("hints") or ""
    if hint not in ("", "disable", "iterative_filter") and "radius" not in params:
        raise UnexpectedError(f"hints: {hint} not supported")


def band(params: Mapping[str, Any], metric: MetricType) -> Band | None:
    """L2: range_filter <= distance < radius. IP and COSINE: radius < score <= range_filter. None: no range search."""
    if "radius" not in params:
        return None
    sign = -1 if metric.larger_is_nearer else 1
    radius = _float32("radius", params["radius"])
    if "range_filter" not in params:
        return Band(np.float32(-np.inf), sign * radius)
    near = _float32("range_filter", params["range_filter"])
    if not sign * near < sign * radius:
        wanted = "greater" if metric.larger_is_nearer else "less"
        raise UnexpectedError(
            f"metric type ({metric}), range_filter({_shown(near)}) must be {wanted} than radius({_shown(radius)})"
        )
    return Band(sign * near, sign * radius)


def _float32(name: str, given: object) -> np.float32:
    try:
        number = searched_number(name, given)
    except UnexpectedError as error:
        kind = {bool: "boolean", str: "string", list: "array", dict: "object"}.get(type(given), "null")
        raise UnexpectedError(f"[json.exception.type_error.302] type must be number, but is {kind}") from error
    with np.errstate(over="ignore"):
        return np.float32(number)


def _shown(value: np.float32) -> str:
    return str(value).removesuffix(".0")
