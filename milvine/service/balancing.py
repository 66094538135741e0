"""Moving segments between nodes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from milvine.errors import CollectionNotFullyLoaded, NodeNotFound, SegmentNotFound
from milvine.service.context import Engine, RequestContext, find_by_any_name
from milvine.service.gate import capability
from milvine.service.resource_groups import all_nodes

_POLL_SECONDS = 0.05
_ANSWER_SECONDS = 1.0


@capability("LoadBalance", on="name")
def balance_load(
    engine: Engine,
    context: RequestContext,
    name: str,
    source: int,
    destinations: Sequence[int],
    segment_ids: Sequence[int],
) -> None:
    """Moves the segments, or all of the source, to the destinations, or to all other nodes; returns when the source has
    none of them, or after a while. In one process the one node is named, and nothing moves."""
    collection = find_by_any_name(engine, context, name)
    collection_id = collection.collection_id
    if not engine.loader.answers.progress(collection).is_loaded:
        raise CollectionNotFullyLoaded(collection_id)
    nodes = engine.cluster.node
    groups = () if collection.load is None else collection.load.group_by_replica
    known, copies = _around(engine, source, groups)
    if source not in known:
        raise NodeNotFound(source, f"source node not found in any replica of collection {collection_id}")
    for destination in destinations:
        if destination not in known:
            raise NodeNotFound(destination, "destination node not found in the same replica")
    held = [i for i in nodes.held(collection_id) if source in nodes.holders(collection_id, i)]
    if nodes.nodes():
        stored = set(held)
    else:  # also those that are not loaded, as in a Milvus of one node
        stored = {meta.segment_id for meta in engine.catalog.snapshot.segments.get(collection_id, ())}
    for segment_id in segment_ids:
        if segment_id not in stored:
            raise SegmentNotFound(segment_id, "segment not found in source node")
    targets = [i for i in destinations or known if i != source]
    moved = list(segment_ids or held)
    if not targets:
        return
    if copies >= len(known):  # each replica is on one node
        if destinations:
            raise NodeNotFound(targets[0], "destination node not found in the same replica")
        return
    for number, segment_id in enumerate(moved):
        others = [i for i in nodes.holders(collection_id, segment_id) if i != source]
        nodes.pin(collection_id, [segment_id], [targets[number % len(targets)], *others])
    while time.monotonic() < context.deadline - _ANSWER_SECONDS:
        if not any(source in nodes.holders(collection_id, segment_id) for segment_id in moved):
            return
        time.sleep(_POLL_SECONDS)


def _around(engine: Engine, source: int, groups: Sequence[str]) -> tuple[list[int], int]:
    """The nodes that may have the segments of a node, and how many of them each segment is on. `groups`: those of the
    replicas; replicas of groups without nodes are anywhere."""
    every = all_nodes(engine)
    for name in dict.fromkeys(groups):
        own = [node.node_id for node in every if node.resource_group == name]
        if source in own:
            return own, groups.count(name)
    homeless = [name for name in groups if not any(node.resource_group == name for node in every)]
    return [node.node_id for node in every] if homeless else [], max(1, len(homeless))
