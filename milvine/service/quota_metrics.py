"""What Milvus's quota center knows: sizes and rates of the nodes, all of which are this process."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from milvine import metrics
from milvine.model.resource_groups import NODE_ID
from milvine.service.context import Engine, RequestContext
from milvine.service.gate import for_every_user, sees
from milvine.service.system_info import hardware


@for_every_user()
def describe_quota_center(engine: Engine, context: RequestContext) -> dict[str, Any]:
    """Milvus's structure, with its names, of the collections that the caller may see. Rates of requests are not
    measured, so there are none."""
    snapshot = engine.catalog.snapshot
    seen = [c for c in snapshot.collections.values() if sees(engine, context, c)]
    of_partition: dict[int, dict[int, int]] = {}
    for collection in seen:
        sizes: dict[int, int] = defaultdict(int)
        for meta in snapshot.segments.get(collection.collection_id, ()):
            sizes[meta.partition_id] += meta.data_bytes
        of_partition[collection.collection_id] = dict(sizes)
    of_collection = {collection_id: sum(sizes.values()) for collection_id, sizes in of_partition.items()}
    node = {
        "Hms": hardware(engine),
        "Rms": [],
        "Fgm": {"MinFlowGraphChannel": "", "MinFlowGraphTt": 0, "NumFlowGraph": 0},
        "Effect": {"NodeID": NODE_ID, "CollectionIDs": sorted(c.collection_id for c in seen)},
    }
    loaded = sum(of_collection.get(c.collection_id, 0) for c in seen if c.load is not None)
    query_node = {
        **node,
        "GrowingSegmentsSize": int(metrics.registry.get_sample_value("milvine_growing_bytes") or 0),
        "LoadedBinlogSize": loaded,
        "DeleteBufferInfo": {"CollectionDeleteBufferNum": {}, "CollectionDeleteBufferSize": {}},
        "StreamingQuota": None,
    }
    return {
        "QueryNodeMetrics": {str(NODE_ID): query_node},
        "DataNodeMetrics": {str(NODE_ID): node},
        "ProxyMetrics": {str(NODE_ID): {"Hms": node["Hms"], "Rms": [], "QueueMetrics": []}},
        "DataCoordMetrics": {
            "TotalBinlogSize": sum(of_collection.values()),
            "CollectionBinlogSize": {str(i): size for i, size in of_collection.items()},
            "PartitionsBinlogSize": {
                str(i): {str(p): size for p, size in sizes.items()} for i, sizes in of_partition.items()
            },
            "CollectionL0RowCount": {},
        },
    }
