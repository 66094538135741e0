"""Boosted trees: what XGBoost computes, and what damaged models say."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from tree_models import model, stump, ubj

from milvine.errors import TreeModelInvalid
from milvine.segment.boosted_tree_files import boosted_trees_of

TREES = [stump(0, 0.5, 1.0, 2.0), stump(1, -1.0, 10.0, 20.0, missing_is_low=False)]
FEATURES = np.array([[0.4, -2.0], [0.5, -1.0], [np.nan, np.nan]], np.float32)


def test_the_values_of_leaves_are_added_to_the_base() -> None:
    trees = boosted_trees_of(ubj(model(TREES, 2)))
    assert trees.scores(FEATURES, is_raw=True).tolist() == [11.5, 22.5, 21.5]
    assert trees.scores(FEATURES, is_raw=False).tolist() == [11.5, 22.5, 21.5]
    assert trees.scores(FEATURES[:0], is_raw=True).tolist() == []


def test_a_logistic_model_gives_probabilities_unless_raw_sums_are_wanted() -> None:
    trees = boosted_trees_of(ubj(model([stump(0, 0.5, -20.0, 1.0)], 1, base="[2E-1]", objective="binary:logistic")))
    sums = trees.scores(FEATURES[:, :1], is_raw=True)
    assert sums == pytest.approx(np.log(0.25) + np.array([-20.0, 1.0, -20.0]), rel=1e-6)
    assert trees.scores(FEATURES[:, :1], is_raw=False) == pytest.approx(1 / (1 + np.exp(-sums)), abs=1e-7)


@pytest.mark.parametrize("objective", ["reg:squarederror", "binary:logistic"])
def test_scores_are_those_of_xgboost(objective: str) -> None:
    xgboost = pytest.importorskip("xgboost")
    rng = np.random.default_rng(3)
    features = rng.normal(size=(400, 5)).astype(np.float32)
    features[rng.random(features.shape) < 0.1] = np.nan
    wanted = np.nan_to_num(features[:, 0] + features[:, 1] ** 2)
    labels = wanted if objective == "reg:squarederror" else wanted > 1
    data = xgboost.DMatrix(features, label=labels)
    booster = xgboost.train({"objective": objective, "max_depth": 5, "nthread": 1}, data, 30)
    trees = boosted_trees_of(bytes(booster.save_raw("ubj")))
    for is_raw in (True, False):
        assert trees.scores(features, is_raw) == pytest.approx(booster.predict(data, output_margin=is_raw), abs=1e-5)


def _with(**changes: Any) -> dict[str, Any]:
    return {**stump(0, 0.5, 1.0, 2.0), **changes}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "UBJ model file is empty"),
        (b'{"learner":{}}', "failed to parse UBJ model: no length at byte 2"),
        (ubj(model(TREES, 2))[:-9], "failed to parse UBJ model: unexpected end of input"),
        (ubj(model(TREES, 2)) + b"Z", "failed to parse UBJ model: 1 bytes after the value"),
        (b"[" * 200, "UBJ model nesting depth exceeds limit 128"),
        (b"[$Z#L" + b"\x00\xff" * 4, "failed to parse UBJ model: a count of values without bytes"),
        (ubj(3), "UBJ model top-level value must be object"),
        (ubj({"learner": 1}), "UBJ model missing object 'learner'"),
        (ubj(model(TREES, 2, objective="rank:pairwise")), "unsupported objective 'rank:pairwise'"),
        (ubj(model(TREES, 2, booster="gblinear")), "unsupported booster 'gblinear'"),
        (ubj(model(TREES, 2, classes="3")), "multiclass model is not supported"),
        (ubj(model(TREES, 2, base="x")), "invalid base_score 'x'"),
        (ubj(model(TREES, 2, base="2", objective="binary:logistic")), "invalid binary logistic base_score '2'"),
        (ubj(model(TREES, 1)), "node 0 split index 1 exceeds num_feature 1"),
        (ubj(model([_with(left_children=[1, -1, 0])], 1)), "node 2 has only one child"),
        (ubj(model([_with(left_children=[3, -1, -1])], 1)), "node 0 child is out of range"),
        (ubj(model([_with(left_children=[0, -1, -1])], 1)), "tree traversal exceeded node count"),
        (ubj(model([_with(default_left=[1])], 1)), "tree array 'default_left' has 1 entries, expected 3"),
        (ubj(model([_with(tree_param={"num_nodes": "4"})], 1)), "tree_param.num_nodes 4 does not match 3 nodes"),
        (ubj(model([_with(split_type=[1, 0, 0])], 1)), "categorical split is not supported"),
        (ubj(model([_with(split_conditions=[0.5, float("nan"), 1.0])], 1)), "invalid split_conditions"),
    ],
)
def test_a_bad_model_is_refused_in_milvus_words(content: bytes, text: str) -> None:
    with pytest.raises(TreeModelInvalid, match="xgboost: ") as refused:
        boosted_trees_of(content)
    assert text in str(refused.value)


def test_no_damage_breaks_more_than_the_model() -> None:
    whole, rng = ubj(model(TREES, 2)), random.Random(4)
    for _ in range(500):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        try:
            scores = boosted_trees_of(bytes(content)).scores(np.zeros((2, 300), np.float32), is_raw=False)
        except TreeModelInvalid:
            continue
        assert scores.shape == (2,)
