"""Nodes that may have stopped: how long they are waited for, and who is asked in their place."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
from absent_nodes import absent_node

from milvine.querynode.remote.delete_feed import DeleteFeed
from milvine.querynode.remote.holdings import Holdings, Placed
from milvine.querynode.remote.later import Later
from milvine.querynode.remote.members import Members
from milvine.querynode.remote.reads import Reads

COLLECTION, SEGMENT = 1, 2


@pytest.fixture
def reads() -> Iterator[Reads]:
    """Two nodes, 2 and 3, hold a segment."""
    holdings, feed, later = Holdings(), DeleteFeed(), Later()
    members = Members(holdings, feed, later, lambda: None)
    nothing = cast(Any, None)
    holdings.put((COLLECTION, SEGMENT), Placed(nothing, nothing, {2: {}, 3: {}}))
    for node_id in (2, 3):
        members.join(absent_node(node_id))
    yield Reads(nothing, members, holdings, feed)
    members.close()
    later.close()


def _asked(reads: Reads) -> int:
    routes = reads.routes(COLLECTION, [SEGMENT])
    assert routes is not None
    (node_id,) = routes
    return node_id


def test_of_two_doubtful_nodes_the_one_that_was_heard_last_is_asked(reads: Reads) -> None:
    stopped, slow = reads.members.present(2), reads.members.present(3)
    slow.answered("search", 0.001)
    for node in (stopped, slow):
        node.failed()
    assert reads.members.doubtful() == {2, 3}
    slow.started()
    assert stopped.in_flight < slow.in_flight, "one that has stopped is idle"
    assert _asked(reads) == 3
    stopped.beat(stopped.report)
    assert _asked(reads) == 2


def test_an_answer_ends_the_doubt_of_a_node() -> None:
    node = absent_node(2)
    node.failed()
    assert node.is_doubtful
    node.answered("search", 0.06)
    assert not node.is_doubtful


def test_a_node_that_was_not_heard_since_is_not_waited_for_three_times_as_long() -> None:
    node = absent_node(2)
    assert node.hedge_seconds("search", time.monotonic()) == 0.05
    for _ in range(16):
        node.answered("search", 0.2)
    assert node.hedge_seconds("search", time.monotonic()) == 0.2
    assert node.hedge_seconds("search", time.monotonic() - 1.0) == pytest.approx(0.6), "it answers others"
    assert node.hedge_seconds("query", time.monotonic()) == 0.05
