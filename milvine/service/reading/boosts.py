"""Boost functions of a search: their parameters, read with Milvus's texts."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import numpy as np

from milvine.errors import FieldNotFound, MilvineError, ParameterInvalid
from milvine.model.collections import Collection
from milvine.model.requests import FunctionScore, RankFunction
from milvine.model.schema import CollectionSchema
from milvine.model.types import DataType
from milvine.segment.boosting import Boost, BoostFunction, RandomScore
from milvine.service.context import Engine
from milvine.service.reading import names
from milvine.service.reading.rankers import json_object, number, reranker_name

BOOST = "boost"
_NO_PLAN = "failed to create query plan"
_MAX_FLOAT = float(np.finfo(np.float32).max)


def _refused(text: str) -> ParameterInvalid:
    return ParameterInvalid(f"{_NO_PLAN}: {text}: query plan failed")


def boost_of(
    engine: Engine, collection: Collection, score: FunctionScore | None, templates: Mapping[str, object]
) -> Boost | None:
    """None if no function is a boost. `templates`: for the filters."""
    functions = [] if score is None else [f for f in score.functions if reranker_name(f) == BOOST]
    if score is None or not functions:
        return None
    read = tuple(_function(engine, collection, function, templates) for function in functions)
    return Boost(
        functions=read,
        adds_scores=_adds(score.params, "boost_mode", "boost mode"),
        adds_functions=_adds(score.params, "function_mode", "function mode"),
    )


def check_fits(boost: Boost | None, has_groups: bool, is_iterator: bool) -> None:
    if boost is not None and (has_groups or is_iterator):
        raise _refused("don't support use segment scorer with group_by or search_iterator")


def _adds(params: Mapping[str, str], key: str, noun: str) -> bool:
    mode = params.get(key, "multiply").lower()
    if mode not in ("multiply", "sum"):
        raise ParameterInvalid(f"{_NO_PLAN}: unknown {noun}: {mode}")
    return mode == "sum"


def _function(
    engine: Engine, collection: Collection, function: RankFunction, templates: Mapping[str, object]
) -> BoostFunction:
    params = function.params
    try:
        predicate = names.compiled(engine, collection, params.get("filter", ""), templates)
    except ParameterInvalid as error:
        raise error.prefixed("parse expr failed").prefixed(_NO_PLAN) from error
    if "weight" not in params:
        raise _refused("must set weight params for weight scorer")
    random = None
    weight = _weight(params["weight"])
    if "random_score" in params:
        random = _random_score(params["random_score"], collection.schema)
    return BoostFunction(weight, predicate, random)


def _weight(text: str) -> float:
    failed = f'parse function scorer weight params failed: strconv.ParseFloat: parsing "{text}"'
    try:
        weight = number(text)
    except ValueError:
        raise _refused(f"{failed}: invalid syntax") from None
    if not isfinite(weight) or abs(weight) > _MAX_FLOAT:
        raise _refused(f"{failed}: value out of range")
    return weight


def _random_score(text: str, schema: CollectionSchema) -> RandomScore:
    given = json_object(text, _NO_PLAN)
    seed = given.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int | float):
        raise ParameterInvalid(f"{_NO_PLAN}: random seed must be number")
    if not -(2**63) <= seed < 2**63:
        raise ParameterInvalid("parse boost random seed params failed: stoll").prefixed("failed to search")
    return RandomScore(int(seed), _seed_field(given["field"], schema) if "field" in given else None)


def _seed_field(name: object, schema: CollectionSchema) -> int:
    if not isinstance(name, str):
        raise ParameterInvalid(f"{_NO_PLAN}: random seed field name must be string")
    field = schema.by_name.get(name)
    if field is None:
        missing: MilvineError = FieldNotFound(name, "random seed field not found")
        raise ParameterInvalid(f"{_NO_PLAN}: {missing.message}")
    if field.data_type is not DataType.INT64:
        raise ParameterInvalid(
            f"{_NO_PLAN}: only support int64 field as random seed, but got {field.data_type.milvus_name}"
        )
    return field.field_id
