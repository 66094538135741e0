"""Nodes that join at the same time, and who waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
from absent_nodes import absent_node

from milvine.background import Supervisor
from milvine.querynode.remote.delete_feed import DeleteFeed
from milvine.querynode.remote.holdings import Holdings
from milvine.querynode.remote.later import Later
from milvine.querynode.remote.members import Members
from milvine.querynode.remote.node_set import NodeSet


def test_who_waits_for_a_node_looks_again_once_its_memory_counts() -> None:
    counted, later = threading.Event(), Later()

    def count() -> None:
        time.sleep(0.2)  # so that a waiter that was woken before has looked
        counted.set()

    members = Members(Holdings(), DeleteFeed(), later, count)
    waiter = threading.Thread(target=members.wait_until, args=(counted.is_set, 60.0), daemon=True)
    waiter.start()
    members.join(absent_node(2))
    waiter.join(10)
    assert not waiter.is_alive()
    members.close()
    later.close()


@pytest.fixture
def nodes() -> Iterator[NodeSet]:
    nothing = cast(Any, None)
    made = NodeSet(nothing, nothing, nothing, 0, Supervisor())
    yield made
    made.close()


def test_of_two_nodes_that_join_at_a_time_the_sum_of_both_is_told_last(nodes: NodeSet) -> None:
    told: list[int] = []
    second = threading.Event()

    class Slow:
        def limit_changed(self, limit_bytes: int) -> None:
            if limit_bytes == 1:
                second.wait(0.5)
            told.append(limit_bytes)
            second.set()

    nodes.members.listener = cast(Any, Slow())
    first = threading.Thread(target=nodes.members.join, args=(absent_node(2),))
    first.start()
    while not nodes.members.ids():
        time.sleep(0.001)
    time.sleep(0.1)
    nodes.members.join(absent_node(3))
    first.join()
    assert told == [1, 2]
