"""Moving segments between nodes, of which there is one: the checks of Milvus, and nothing to move."""

from __future__ import annotations

from collections.abc import Sequence

from milvine.errors import CollectionNotFullyLoaded, NodeNotFound, SegmentNotFound
from milvine.model.resource_groups import NODE_ID
from milvine.service.context import Engine, RequestContext, find_by_any_name
from milvine.service.gate import capability


@capability("LoadBalance", on="name")
def balance_load(
    engine: Engine,
    context: RequestContext,
    name: str,
    source: int,
    destinations: Sequence[int],
    segment_ids: Sequence[int],
) -> None:
    """Succeeds if the one node is named and holds the segments."""
    collection = find_by_any_name(engine, context, name)
    collection_id = collection.collection_id
    if not engine.loader.progress(collection).is_loaded:
        raise CollectionNotFullyLoaded(collection_id)
    if source != NODE_ID:
        raise NodeNotFound(source, f"source node not found in any replica of collection {collection_id}")
    for node in destinations:
        if node != NODE_ID:
            raise NodeNotFound(node, "destination node not found in the same replica")
    held = {meta.segment_id for meta in engine.catalog.snapshot.segments.get(collection_id, ())}
    for segment_id in segment_ids:
        if segment_id not in held:
            raise SegmentNotFound(segment_id, "segment not found in source node")
