"""Models of XGBoost in its UBJ format, read and checked with Milvus's texts.

The trees are checked here whole, since walks over damaged ones would not end, or leave the arrays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from milvine.errors import TreeModelInvalid
from milvine.model import ubjson
from milvine.segment.boosted_trees import Array, BoostedTrees

_OBJECTIVES = ("reg:squarederror", "binary:logistic")
_MAX_INT32 = 2**31 - 1
_ENDLESS = "tree traversal exceeded node count"


def boosted_trees_of(content: bytes) -> BoostedTrees:
    """Raises TreeModelInvalid."""
    if not content:
        raise TreeModelInvalid("UBJ model file is empty")
    try:
        model = ubjson.loads(content)
    except ubjson.TooDeep:
        raise TreeModelInvalid(f"UBJ model nesting depth exceeds limit {ubjson.MAX_DEPTH}") from None
    except ubjson.NotUbjson as error:
        raise TreeModelInvalid(f"failed to parse UBJ model: {error}") from error
    if not isinstance(model, dict):
        raise TreeModelInvalid("UBJ model top-level value must be object")
    learner = _object(model, "learner")
    params = _object(learner, "learner_model_param")
    if not (features := _text(params, "num_feature")):
        raise TreeModelInvalid("UBJ model missing num_feature")
    feature_count = _whole(features, "num_feature")
    if _whole(_text(params, "num_class", "0"), "num_class") > 1:
        raise TreeModelInvalid("multiclass model is not supported")
    objective = _objective(learner)
    booster = _booster(learner)
    _check_booster(booster)
    base = _base(_text(params, "base_score", "0"), objective == "binary:logistic")
    return _joined([_tree(tree, feature_count) for tree in booster["trees"]], feature_count, objective, base)


def _object(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = parent.get(key)
    if not isinstance(found, dict):
        raise TreeModelInvalid(f"UBJ model missing object '{key}'")
    return found


def _text(parent: Mapping[str, Any], key: str, default: str = "") -> str:
    found = parent.get(key)
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        return default
    return f"{found:f}" if isinstance(found, float) else str(found)


def _whole(text: str, key: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= _MAX_INT32:
        raise TreeModelInvalid(f"invalid {key} '{text}'")
    return number


def _objective(learner: Mapping[str, Any]) -> str:
    found = learner.get("objective")
    if not isinstance(found, dict):
        raise TreeModelInvalid("UBJ model missing objective metadata")
    if not (name := _text(found, "name")):
        raise TreeModelInvalid("UBJ model missing objective name")
    if name not in _OBJECTIVES:
        raise TreeModelInvalid(f"unsupported objective '{name}'")
    return name


def _booster(learner: Mapping[str, Any]) -> Mapping[str, Any]:
    found = learner.get("gradient_booster")
    if not isinstance(found, dict):
        raise TreeModelInvalid("UBJ model missing gradient_booster metadata")
    model = found.get("model")
    inner = model if isinstance(model, dict) else found
    name = _text(found, "name") or _text(inner, "name")
    if name not in ("", "gbtree"):
        raise TreeModelInvalid(f"unsupported booster '{name}'")
    return inner


def _check_booster(booster: Mapping[str, Any]) -> None:
    params = booster.get("gbtree_model_param")
    parallel = _text(params, "num_parallel_tree", "1") if isinstance(params, dict) else "1"
    if parallel != "1":
        raise TreeModelInvalid(f"unsupported num_parallel_tree '{parallel}'")
    if not isinstance(booster.get("trees"), list):
        raise TreeModelInvalid("UBJ model missing gbtree trees")
    for tree in booster["trees"]:
        if not isinstance(tree, dict):
            raise TreeModelInvalid("tree entry must be object")
        kinds = tree.get("split_type")
        is_split_by_kind = _is_array(kinds) and _numbers(kinds, "split_type").any()
        categories: Any = tree.get("categories")
        if is_split_by_kind or (_is_array(categories) and len(categories)):
            raise TreeModelInvalid("categorical split is not supported")


def _is_array(value: Any) -> bool:
    return isinstance(value, list | np.ndarray)


def _base(text: str, is_logistic: bool) -> float:
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        base = float(np.float32(float(inner)))
    except ValueError:
        base = math.nan
    if not math.isfinite(base):
        raise TreeModelInvalid(f"invalid base_score '{text}'")
    if not is_logistic or base == 0:
        return base
    if not 0 < base < 1:
        raise TreeModelInvalid(f"invalid binary logistic base_score '{text}'")
    return float(np.log(np.float32(base) / (1 - np.float32(base))))


def _numbers(values: Any, key: str) -> Array:
    """float64 (n,)"""
    try:
        with np.errstate(invalid="ignore"):
            numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise TreeModelInvalid(f"invalid {key}") from None
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise TreeModelInvalid(f"invalid {key}")
    return numbers


def _tree(tree: Mapping[str, Any], feature_count: int) -> tuple[Array, ...]:
    """left, right, feature, threshold, goes_left of its nodes; leaves go on to themselves."""
    arrays = {}
    for key in ("left_children", "right_children", "split_indices", "split_conditions", "default_left"):
        if not _is_array(tree.get(key)):
            raise TreeModelInvalid(f"UBJ model missing array '{key}'")
        arrays[key] = _numbers(tree[key], key)
    left, right, feature, threshold, goes_left = arrays.values()
    count = len(left)
    if not count:
        raise TreeModelInvalid("tree has no nodes")
    _check_params(tree.get("tree_param"), count)
    for key, array in arrays.items():
        if len(array) != count:
            raise TreeModelInvalid(f"tree array '{key}' has {len(array)} entries, expected {count}")
    is_leaf = left < 0
    if (alone := np.flatnonzero(is_leaf != (right < 0))).size:
        raise TreeModelInvalid(f"node {alone[0]} has only one child")
    if (outside := np.flatnonzero(~is_leaf & ((left >= count) | (right >= count)))).size:
        raise TreeModelInvalid(f"node {outside[0]} child is out of range")
    if (unknown := np.flatnonzero(~is_leaf & ((feature < 0) | (feature >= feature_count)))).size:
        node = unknown[0]
        raise TreeModelInvalid(f"node {node} split index {feature[node]:.0f} exceeds num_feature {feature_count}")
    own = np.arange(count)
    if (~is_leaf & ((left == own) | (right == own))).any():
        raise TreeModelInvalid(_ENDLESS)
    return (
        np.where(is_leaf, own, left).astype(np.int64),
        np.where(is_leaf, own, right).astype(np.int64),
        np.where(is_leaf, 0, feature).astype(np.int64),
        threshold.astype(np.float32),
        goes_left != 0,
    )


def _check_params(params: Any, node_count: int) -> None:
    if not isinstance(params, dict):
        return
    said = _whole(_text(params, "num_nodes", str(node_count)), "tree_param.num_nodes")
    if said != node_count:
        raise TreeModelInvalid(f"tree_param.num_nodes {said} does not match {node_count} nodes")
    if _whole(_text(params, "size_leaf_vector", "0"), "tree_param.size_leaf_vector") > 1:
        raise TreeModelInvalid("multi-target leaf vector model is not supported")


def _joined(trees: Sequence[tuple[Array, ...]], feature_count: int, objective: str, base: float) -> BoostedTrees:
    counts = np.array([len(tree[0]) for tree in trees], np.int64)
    roots = np.cumsum(counts) - counts
    empty = (np.zeros(0, np.int64),) * 3 + (np.zeros(0, np.float32), np.zeros(0, np.bool_))
    left, right, feature, threshold, goes_left = map(np.concatenate, zip(*trees, strict=True)) if trees else empty
    starts = np.repeat(roots, counts)
    left, right = left + starts, right + starts
    return BoostedTrees(
        feature_count=feature_count,
        is_logistic=objective == "binary:logistic",
        base=base,
        depth=_depth(roots, left, right, int(counts.max(initial=0))),
        roots=roots,
        left=left,
        right=right,
        feature=feature,
        threshold=threshold,
        goes_left=goes_left,
    )


def _depth(roots: Array, left: Array, right: Array, most: int) -> int:
    """The number of steps after which every walk is at a leaf."""
    nodes, depth = roots, 0
    while True:
        nodes = nodes[left[nodes] != nodes]
        if not len(nodes):
            return depth
        if depth == most:
            raise TreeModelInvalid(_ENDLESS)
        nodes, depth = np.unique(np.concatenate((left[nodes], right[nodes]))), depth + 1
