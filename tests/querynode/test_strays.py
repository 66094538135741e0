"""Segments that a node reports and should not hold, or holds no more: told from those just opened or closed."""

from __future__ import annotations

from typing import Any, cast

from milvine.querynode.remote.remote_node import RemoteNode, Report

KEY = (1, 2)


def _report() -> Report:
    numbers: dict[str, Any] = {"limit_bytes": 1, "held_bytes": 0, "mapped_bytes": 0, "epoch": 1, "session": 2}
    return Report(key="k", address="a:1", hostname="h", segments={}, labels={}, **numbers)


def _node() -> RemoteNode:
    return RemoteNode(2, _report(), cast(Any, None), 1, 2)


def test_a_segment_that_is_missing_in_several_reports_is_a_stray() -> None:
    node, serving = _node(), object()
    for _ in range(3):
        assert node.lasting({KEY: serving}) == []
        node.beat(_report())
    assert node.lasting({KEY: serving}) == [KEY]
    node.lasting({})
    assert node.lasting({KEY: serving}) == [], "it was there meanwhile"


def test_a_segment_that_is_closed_and_opened_again_and_again_is_none() -> None:
    node = _node()
    for _ in range(10):
        assert node.lasting({KEY: object()}) == []
        node.beat(_report())
