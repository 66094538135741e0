"""A large read is planned by arrays as a small one is, segment by segment."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any, cast

import pytest

from milvine.querynode.remote import reads as reads_module
from milvine.querynode.remote.delete_feed import DeleteFeed
from milvine.querynode.remote.holdings import HERE, Holdings, Placed
from milvine.querynode.remote.later import Later
from milvine.querynode.remote.members import Members
from milvine.querynode.remote.reads import Reads
from milvine.querynode.remote.remote_node import RemoteNode, Report

COLLECTION, NODES, SEGMENTS = 1, 7, 600


class Channel:
    def close(self) -> None:
        pass


@pytest.fixture
def planned() -> tuple[Reads, Holdings, Members]:
    holdings, feed = Holdings(), DeleteFeed()
    members = Members(holdings, feed, Later(), lambda: None)
    for i in range(2, 2 + NODES):
        report = Report(f"key-{i}", f"node-{i}:1", "host", 1, 0, 0, 1, i, {}, {})
        members.join(RemoteNode(i, report, cast(Any, Channel()), 1, i))
    rng = random.Random(3)
    for segment_id in range(SEGMENTS):
        of = [HERE] if segment_id % 50 == 0 else rng.sample(sorted(members.ids()), rng.randint(2, 3))
        put(holdings, segment_id, of)
    return Reads(cast(Any, None), members, holdings, feed), holdings, members


def put(holdings: Holdings, segment_id: int, node_ids: list[int]) -> None:
    empty = cast(Any, None)
    holdings.put((COLLECTION, segment_id), Placed(empty, empty, {i: {("rows", 0): 1} for i in node_ids}))


def test_a_large_read_asks_the_holders_that_a_small_one_asks(
    planned: tuple[Reads, Holdings, Members], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, _, members = planned
    rng, ids = random.Random(4), tuple(range(SEGMENTS))
    for node in members.all():
        for _ in range(rng.randint(0, 5)):
            node.started()
    arrays = reads.routes(COLLECTION, ids)
    with monkeypatch.context() as patch:
        patch.setattr(reads_module, "_MANY", SEGMENTS + 1)
        one_by_one = reads.routes(COLLECTION, ids)
    assert arrays is not None and one_by_one is not None
    assert {i: sorted(some) for i, some in arrays.items()} == {i: sorted(some) for i, some in one_by_one.items()}
    assert Counter(i for some in arrays.values() for i in some) == Counter(ids)


def test_a_large_read_follows_what_nodes_hold(planned: tuple[Reads, Holdings, Members]) -> None:
    reads, holdings, members = planned
    ids = tuple(range(SEGMENTS))
    assert reads.layout(COLLECTION, ids) is reads.layout(COLLECTION, ids)
    put(holdings, 5, [HERE])
    found = reads.routes(COLLECTION, ids)
    assert found is not None and 5 in found[HERE]
    members.lose(3, "the test ends it")
    found = reads.routes(COLLECTION, ids)
    assert found is not None and 3 not in found
    holdings.pop((COLLECTION, 5))
    assert reads.routes(COLLECTION, ids) is None
    put(holdings, 5, [3])
    assert reads.routes(COLLECTION, ids) is None


def test_the_nodes_that_hold_segments_are_counted(planned: tuple[Reads, Holdings, Members]) -> None:
    reads, _, members = planned
    ids = tuple(range(SEGMENTS))
    layout = reads.layout(COLLECTION, ids)
    assert layout is not None
    places, present = reads.chosen(layout), members.ids()
    assert places is not None
    for node_id, some in places.items():
        for asked in (present, present - {4}, {5, 6, HERE}):
            found = bool(layout.counts(asked)[some].min() > (node_id in asked))
            assert found == reads.are_held(COLLECTION, layout.ids_at(some), asked - {node_id})
    assert layout.counts(present)[places[2]].min() > 1
