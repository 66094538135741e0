"""Segments that a node reports and should not hold, or holds no more: told from those just opened or closed."""

from __future__ import annotations

from absent_nodes import absent_node

KEY = (1, 2)


def test_a_segment_that_is_missing_in_several_reports_is_a_stray() -> None:
    node, serving = absent_node(2), object()
    for _ in range(3):
        assert node.lasting({KEY: serving}) == []
        node.beat(node.report)
    assert node.lasting({KEY: serving}) == [KEY]
    node.lasting({})
    assert node.lasting({KEY: serving}) == [], "it was there meanwhile"


def test_a_segment_that_is_closed_and_opened_again_and_again_is_none() -> None:
    node = absent_node(2)
    for _ in range(10):
        assert node.lasting({KEY: object()}) == []
        node.beat(node.report)
