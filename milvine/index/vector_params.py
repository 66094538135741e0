"""Definitions of indexes on vector fields: their types, metrics and parameters, checked in Milvus's order and words."""

from __future__ import annotations

from collections.abc import Mapping, Set

from milvine.errors import ParameterInvalid
from milvine.index.params import AUTOINDEX, ResolvedIndex, build_params, check_size
from milvine.index.registry import TYPES, auto_type
from milvine.index.scalar_registry import SCALAR_TYPES
from milvine.model.functions import FunctionType
from milvine.model.properties import INDEX_PROPERTIES, check_new_index_properties
from milvine.model.schema import FieldSchema, flatten_params
from milvine.model.types import MetricType
from milvine.model.vectors import VectorKind, kind_of

_RESERVED_KEYS = frozenset({"index_type", "metric_type", "params", *INDEX_PROPERTIES})


def resolve(field: FieldSchema, params: Mapping[str, str], *, saves_memory: bool = False) -> ResolvedIndex:
    """Checks an index for a vector field. `saves_memory`: AUTOINDEX is a graph over codes. Raises ParameterInvalid with
    Milvus's texts."""
    flat = flatten_params(params)
    check_size(flat)
    name = flat.get("index_type", "") or AUTOINDEX
    check_new_index_properties(flat)
    if not (name in SCALAR_TYPES or name in TYPES):
        raise ParameterInvalid(expected="valid index", actual=f"invalid index type: {name}")
    kind = kind_of(field.data_type)
    given_metric = flat.get("metric_type", "")
    if name == AUTOINDEX:
        metric = _metric(field, given_metric or kind.default_metric, is_given=bool(given_metric))
        return _auto(field, flat, metric, saves_memory)
    if not given_metric and field.made_by is not FunctionType.BM25:
        raise _invalid("metric type not set for vector index")
    index_type = TYPES.get(name)
    if index_type is None or field.data_type not in index_type.data_types:
        raise ParameterInvalid(f"data type {field.data_type.milvus_name} can't build with this index {name}")
    metric = _metric(field, given_metric, is_given=bool(given_metric))
    _check_metric(index_type.metrics, kind, metric)
    built = build_params({**index_type.params, **index_type.metric_params.get(metric, {})}, flat)
    index_type.check(field, built)
    return ResolvedIndex(name, metric, name, built, dict(params))


def _metric(field: FieldSchema, name: str, *, is_given: bool) -> MetricType:
    """The metric of an index on a field. The output of a BM25 function has only one."""
    if field.made_by is not FunctionType.BM25:
        return kind_of(field.data_type).metric(name)
    if is_given and name != MetricType.BM25:
        raise ParameterInvalid(f"index metric type of BM25 function output field must be BM25, got {name}")
    return MetricType.BM25


def _auto(field: FieldSchema, flat: Mapping[str, str], metric: MetricType, saves_memory: bool) -> ResolvedIndex:
    if any(k not in _RESERVED_KEYS for k in flat):
        raise ParameterInvalid("only metric type can be passed when use AutoIndex")
    placing = {k: flat[k] for k in flat if k in INDEX_PROPERTIES}
    described = {"index_type": AUTOINDEX, "metric_type": metric.value, **placing}
    index_type, chosen = auto_type(field.data_type, metric, saves_memory)
    _check_metric(index_type.auto_metrics or index_type.metrics, kind_of(field.data_type), metric)
    built = {**build_params(index_type.metric_params.get(metric, {}), {}), **chosen}
    return ResolvedIndex(AUTOINDEX, metric, index_type.name, built, described)


def _check_metric(metrics: Set[MetricType], kind: VectorKind, metric: MetricType) -> None:
    if metric not in metrics:
        supported = " ".join(sorted(metrics & kind.metrics))
        raise ParameterInvalid(f"metric type {metric} not found or not supported, supported: [{supported}]")


def _invalid(reason: str) -> ParameterInvalid:
    return ParameterInvalid(reason, expected="valid index params", actual="invalid index params")
