"""The context of a request, and the parts that the service uses."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import field, replace

from milvine.background import Supervisor
from milvine.catalog.store import Catalog
from milvine.config import Settings
from milvine.datanode.node import DataNode
from milvine.errors import CollectionNotFound, DatabaseNotFound, PartitionNotFound
from milvine.model.collections import DEFAULT_DATABASE, Collection, Partition
from milvine.model.records import record
from milvine.model.schema_rules import check_collection_name
from milvine.model.timestamps import HybridClock
from milvine.model.users import ANYONE, Caller
from milvine.model_services.access import Access
from milvine.model_services.client import ModelClient
from milvine.querynode.cluster import Cluster
from milvine.querynode.held_segments import HeldReads, HeldSegments
from milvine.querynode.loader import Loader
from milvine.service.audit import AuditLog
from milvine.service.importing.runner import ImportRunner
from milvine.service.logins import Logins
from milvine.service.passwords import Passwords
from milvine.service.rate_limits import RateLimits
from milvine.service.request_log import RequestLog, SearchStats
from milvine.service.trace import NO_TRACE, Trace
from milvine.storage.outside_files import OutsideFiles
from milvine.storage.resource_files import ResourceFiles

DEFAULT_TIMEOUT_SECONDS = 60.0
ROOT = "root"
"""The first user, who may do everything and cannot be dropped."""
NOT_DESCRIBED = "can't find collection"


def channel_name(collection_id: int, shard: int = 0) -> str:
    """The name of a shard's write channel in Milvus's texts and descriptions."""
    return f"milvine-dml_{shard}_{collection_id}v{shard}"


@record
class Engine:
    """The parts below the service, wired by `server`."""

    settings: Settings
    catalog: Catalog
    clock: HybridClock
    datanode: DataNode
    loader: Loader
    cluster: Cluster
    held_segments: HeldSegments
    passwords: Passwords
    logins: Logins
    rates: RateLimits
    background: Supervisor
    request_log: RequestLog
    model_client: ModelClient
    rerankers: Access
    """What calls of rerank models need besides their parameters."""
    embedders: Access
    """What calls of embedding models need besides their parameters."""
    resource_files: ResourceFiles
    outside_files: OutsideFiles | None
    """Where file resources may come from; None if nothing is set."""
    imports: ImportRunner
    audit: AuditLog | None = None
    """None if it is switched off."""
    leave_nodes: Callable[[], None] = lambda: None
    """Ends the calls of other nodes; with one process there are none."""
    held: HeldReads | None = None
    """The snapshot that a request reads in place of the collection."""

    @property
    def reads(self) -> Cluster | HeldReads:
        return self.cluster if self.held is None else self.held

    def close(self, deadline: float) -> bool:
        """Stops background work and loading, then closes the logs and the catalog. No request may be in progress.
        Returns False, with logs and catalog still open, if work has not ended by `deadline` (time.monotonic); the lease
        of a head is given back all the same."""
        self.leave_nodes()
        self.loader.close()
        self.cluster.node.close()
        has_ended = self.background.stop(deadline)
        if has_ended:
            self.datanode.close()
            self.catalog.close()
        elif self.catalog.lease is not None:
            self.catalog.lease.give_back()  # what still runs ends with the process, and the epoch guards commits
        return has_ended


@record
class RequestContext:
    """`claimed_user` reads the user that the token names, even if its password is not checked, or "". `deadline` is on
    time.monotonic()'s scale. `searches` collects how the searches of the request ran, for the log,
    `trace` for explanations."""

    database: str = DEFAULT_DATABASE
    caller: Caller = ANYONE
    deadline: float = field(default_factory=lambda: time.monotonic() + DEFAULT_TIMEOUT_SECONDS)
    claimed_user: Callable[[], str] = str
    searches: list[SearchStats] = field(default_factory=list)
    trace: Trace = NO_TRACE

    @property
    def user(self) -> str:
        return self.caller.user

    def in_database(self, name: str) -> RequestContext:
        """The same request, of the same caller, in another database."""
        return replace(self, database=name)


def check_database(engine: Engine, context: RequestContext) -> None:
    if context.database not in engine.catalog.snapshot.databases:
        raise DatabaseNotFound(context.database)


def find_collection(engine: Engine, context: RequestContext, name: str) -> Collection:
    """A collection by name. Raises for a bad name, a missing database, a missing collection, in this order."""
    check_collection_name(name)
    return find_by_any_name(engine, context, name)


def find_by_any_name(engine: Engine, context: RequestContext, name: str) -> Collection:
    """As `find_collection`, for calls in which Milvus does not check names: an invalid name is not found."""
    if not name:
        check_collection_name(name)
    check_database(engine, context)
    collection = engine.catalog.snapshot.find(context.database, name)
    if collection is None:
        raise CollectionNotFound(name, context.database)
    if engine.held is not None and engine.held.collection.collection_id == collection.collection_id:
        return engine.held.collection
    return collection


def find_described(engine: Engine, context: RequestContext, name: str) -> Collection:
    """As `find_collection`, for DescribeCollection and calls that begin with it in Milvus: their text differs."""
    check_database(engine, context)
    check_collection_name(name)
    collection = engine.catalog.snapshot.find(context.database, name)
    if collection is None:
        raise CollectionNotFound(name, context.database, NOT_DESCRIBED)
    return collection


def find_partition(collection: Collection, name: str) -> Partition:
    partition = collection.partition_by_name.get(name)
    if partition is None:
        raise PartitionNotFound(name)
    return partition
