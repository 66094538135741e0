"""Moving segments between nodes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from milvine.errors import CollectionNotFullyLoaded, NodeNotFound, SegmentNotFound
from milvine.service.context import Engine, RequestContext, find_by_any_name
from milvine.service.gate import capability
from milvine.service.resource_groups import all_nodes, nodes_of_group

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
    if not engine.loader.progress(collection).is_loaded:
        raise CollectionNotFullyLoaded(collection_id)
    nodes = engine.cluster.node
    group = "" if collection.load is None else collection.load.resource_group
    known = [node.node_id for node in nodes_of_group(engine, group) or all_nodes(engine)]
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
    if nodes.copies(collection_id) >= len(known):  # each replica is on one node
        if destinations:
            raise NodeNotFound(targets[0], "destination node not found in the same replica")
        return
    for number, segment_id in enumerate(moved):
        others = [i for i in nodes.holders(collection_id, segment_id) if i != source]
        nodes.pin([segment_id], [targets[number % len(targets)], *others])
    while time.monotonic() < context.deadline - _ANSWER_SECONDS:
        if not any(source in nodes.holders(collection_id, segment_id) for segment_id in moved):
            return
        time.sleep(_POLL_SECONDS)
