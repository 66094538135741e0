"""The timestamp of a read, and whether its rows are still there."""

from __future__ import annotations

from milvine.errors import UnexpectedError
from milvine.model.collections import Collection
from milvine.service.context import Engine


def _go_duration(seconds: int) -> str:
    """As Go prints it: 1h0m5s."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"


def check_travel(engine: Engine, collection_id: int, wanted: int) -> None:
    """Refuses a timestamp whose rows may be gone. Called before a read and again after it, since a compaction stores in
    the catalog what it removes before a view lacks it."""
    collection = engine.catalog.snapshot.collections.get(collection_id)
    if not wanted or collection is None:
        return
    if wanted < collection.folded_ts:
        seconds = engine.settings.retention_seconds
    elif wanted < min(collection.expired_ts(), engine.reads.read_ts(collection_id)):
        seconds = collection.ttl_seconds
    else:
        return
    raise UnexpectedError(f"only support to travel back to {_go_duration(seconds)} so far")


def read_ts(engine: Engine, collection: Collection, wanted: int) -> int:
    """`wanted`, once no write can get a timestamp at or before it; 0: a timestamp after all acknowledged writes."""
    check_travel(engine, collection.collection_id, wanted)
    current = engine.reads.read_ts(collection.collection_id)
    if wanted > current:
        engine.datanode.settle(collection.collection_id, wanted)
    return wanted or current
