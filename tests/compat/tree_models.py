"""Models of boosted trees in the UBJ format, as XGBoost writes them."""

from __future__ import annotations

import struct
from typing import Any


def ubj(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"{" + b"".join(_text(name) + ubj(one) for name, one in value.items()) + b"}"
    if isinstance(value, list) and value and all(isinstance(one, float) for one in value):
        return b"[$d#" + _length(value) + struct.pack(f">{len(value)}f", *value)
    if isinstance(value, list) and value and all(type(one) is int for one in value):
        return b"[$l#" + _length(value) + struct.pack(f">{len(value)}i", *value)
    if isinstance(value, list):
        return b"[#" + _length(value) + b"".join(map(ubj, value))
    if isinstance(value, str):
        return b"S" + _text(value)
    return b"l" + struct.pack(">i", value)


def _length(value: Any) -> bytes:
    return b"L" + struct.pack(">q", len(value))


def _text(text: str) -> bytes:
    return _length(text.encode()) + text.encode()


def stump(feature: int, threshold: float, low: float, high: float, *, missing_is_low: bool = True) -> dict[str, Any]:
    """A tree that adds `low` where the feature is below the threshold."""
    return {
        "tree_param": {"num_nodes": "3", "size_leaf_vector": "1"},
        "left_children": [1, -1, -1],
        "right_children": [2, -1, -1],
        "split_indices": [feature, 0, 0],
        "split_conditions": [threshold, low, high],
        "default_left": [int(missing_is_low), 0, 0],
        "split_type": [0, 0, 0],
        "categories": [],
    }


def model(
    trees: list[dict[str, Any]],
    features: int,
    *,
    base: str = "5E-1",
    objective: str = "reg:squarederror",
    booster: str = "gbtree",
    classes: str = "0",
) -> dict[str, Any]:
    params = {"num_feature": str(features), "num_class": classes, "base_score": base}
    inner = {"gbtree_model_param": {"num_parallel_tree": "1"}, "trees": trees}
    return {
        "learner": {
            "learner_model_param": params,
            "objective": {"name": objective},
            "gradient_booster": {"name": booster, "model": inner},
        },
        "version": [3, 2, 0],
    }
