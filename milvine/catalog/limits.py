"""How many of each there may be."""

from __future__ import annotations

from milvine.model.records import record


@record
class Limits:
    """`databases` beside the default one; `partitions` of one collection; `general_capacity`: partitions times shards,
    summed over all collections."""

    collections: int = 65536
    collections_per_database: int = 65536
    databases: int = 64
    partitions: int = 1024
    general_capacity: int = 65536
