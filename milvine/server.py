"""The composition root: builds everything and starts it in order. The only file that knows all concrete classes."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from milvine import __version__, logs, metrics
from milvine.analysis import dictionaries
from milvine.background import Supervisor
from milvine.catalog.leases import Lease
from milvine.catalog.limits import Limits
from milvine.catalog.opening import open_catalog_of
from milvine.catalog.store import Catalog
from milvine.config import HINT, LRU, OBJECT_LOG, Settings, is_loopback
from milvine.datanode.node import DataNode
from milvine.datanode.workers import Elsewhere, Workers
from milvine.errors import ServiceNotReady, UnexpectedError
from milvine.grpc_api import not_serving as grpc_not_serving
from milvine.grpc_api import wire
from milvine.intake import Intake
from milvine.model.properties import PartKind
from milvine.model.timestamps import HybridClock
from milvine.model_services.access import Access
from milvine.model_services.client import EVERY_HOST, ModelClient
from milvine.querynode.budget import Budget
from milvine.querynode.cluster import Cluster
from milvine.querynode.held_segments import HeldSegments
from milvine.querynode.joining import Blocks
from milvine.querynode.loader import Loader
from milvine.querynode.local_node import LocalNode
from milvine.querynode.remote import ray_tasks
from milvine.querynode.remote.head import Head
from milvine.querynode.remote.node_set import NodeSet
from milvine.querynode.remote.process import certificates_of, check_is_guarded
from milvine.querynode.remote.ray_cluster import RayNodes
from milvine.querynode.resting import RestPolicy
from milvine.rest_api import not_serving as rest_not_serving
from milvine.rest_api.app import make_app
from milvine.segment.rows import parsed_json
from milvine.segment.view import Views
from milvine.service import roles, users
from milvine.service.audit import open_audit_log
from milvine.service.context import Engine
from milvine.service.importing.runner import ImportRunner
from milvine.service.logins import Logins
from milvine.service.passwords import Passwords
from milvine.service.rate_limits import RateLimits
from milvine.service.request_log import open_request_log
from milvine.service.request_spans import open_spans
from milvine.service.weak_defaults import warnings_at_start
from milvine.storage.claims import check_before_turn, place_of
from milvine.storage.directories import make_directory, sync_directory
from milvine.storage.import_files import ImportPlaces
from milvine.storage.logs import ChosenLogs, LocalLogs, ObjectLogs, is_in_store
from milvine.storage.objects import Objects
from milvine.storage.outside_files import FilesBelow, FilesInStore, OutsideFiles
from milvine.storage.resource_files import ResourceFiles, SharedResourceFiles
from milvine.storage.segment_files import SegmentPaths
from milvine.storage.store import CachedStore, SegmentStore, open_store

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]
_log = logging.getLogger(__name__)


def build_engine(settings: Settings, background: Supervisor | None = None) -> Engine:
    """Opens the catalog, replays the logs, starts background work, and starts to load what was loaded before.

    Raises DataIntegrityError, naming the file, if the catalog is damaged.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    root = Path(settings.data_dir)
    make_directory(root / "segments")
    make_directory(root / "wal")
    paths = SegmentPaths(root)
    _check_log_settings(settings)
    # First, since it waits for the turn of this server: the store belongs to the server that opened it last.
    catalog = open_catalog_of(
        root,
        settings.catalog_uri,
        settings.session_seconds if settings.standby else 0.0,
        is_standby=settings.standby,
        is_empty=settings.log_store == OBJECT_LOG,
        before_turn=partial(_check_store_before_turn, settings),
    )
    name = _shared_name(settings, catalog)
    store = open_store(paths, place_of(settings), settings.store_cache_bytes, name, catalog.epoch)
    log_places = _open_logs(settings, paths, store, catalog)
    catalog.limits = Limits(
        settings.max_collections,
        settings.max_collections_per_database,
        settings.max_databases,
        settings.max_partitions,
        settings.max_general_capacity,
    )
    sync_directory(root)
    resource_files = _open_resource_files(root, catalog, store, name)
    dictionaries.install(resource_files)
    background = background or Supervisor()
    views, clock = Views(), HybridClock()
    datanode = DataNode(settings, catalog, views, store, log_places, clock, background)
    threads = max(2, os.cpu_count() or 1)
    budget = Budget(settings.memory_limit_bytes)
    blocks = Blocks(budget)
    local = LocalNode(store, threads, blocks)
    node = NodeSet(catalog, views, local, settings.memory_limit_bytes, background) if settings.cluster_port else local
    parsed_json.set_limit(settings.json_cache_bytes)
    mmap_by_default = {
        PartKind.VECTOR_FIELD: settings.mmap_vector_field,
        PartKind.VECTOR_INDEX: settings.mmap_vector_index,
        PartKind.SCALAR_FIELD: settings.mmap_scalar_field,
        PartKind.SCALAR_INDEX: settings.mmap_scalar_index,
    }
    serves_unlisted = settings.load_fields_mode == HINT
    loader = Loader(
        catalog,
        views,
        node,
        budget,
        blocks,
        threads,
        mmap_by_default,
        background,
        serves_unlisted_fields=serves_unlisted,
        memory_may_come=isinstance(node, NodeSet),
        rest_policy=RestPolicy(settings.idle_release_seconds, makes_room=settings.memory_policy == LRU),
    )
    cluster = Cluster(catalog, views, node, loader, blocks, max(1, 3 * settings.worker_threads // 4))
    started = time.monotonic()
    datanode.recover()
    sealed = [meta for metas in catalog.snapshot.segments.values() for meta in metas]
    logs.event(
        _log,
        logging.INFO,
        "recovered",
        collections=len(catalog.snapshot.collections),
        sealed_segments=len(sealed),
        sealed_rows=sum(meta.row_count for meta in sealed),
        growing_bytes=views.all_growing_bytes,
        to_load=sum(one.load is not None for one in catalog.snapshot.collections.values()),
        seconds=round(time.monotonic() - started, 3),
    )
    _count_under_milvus_names(catalog)
    datanode.start()
    leave_nodes = (
        _listen(settings, node, datanode.workers, catalog, loader, clock, resource_files, background)
        if isinstance(node, NodeSet)
        else _nothing
    )
    loader.resume()
    rates = RateLimits(catalog, settings.rates, enabled=settings.limits_enabled)
    imports = ImportRunner(
        settings, catalog, datanode, clock, _import_places(settings), _model_hosts(settings), background
    )
    imports.start()
    engine = Engine(
        settings,
        catalog,
        clock,
        datanode,
        loader,
        cluster,
        HeldSegments(store),
        Passwords(),
        Logins(),
        rates,
        background,
        open_request_log(settings, open_spans(settings)),
        _model_client(settings),
        Access(settings.credentials, settings.rerank_providers, settings.model_request_seconds),
        Access(settings.credentials, settings.embedding_providers, settings.model_request_seconds),
        resource_files,
        _outside_files(settings),
        imports,
        open_audit_log(settings),
        leave_nodes,
    )
    users.ensure_root(engine)
    for warning in warnings_at_start(engine):
        _log.warning("%s", warning)
    roles.ensure_public_privileges(engine)
    return engine


def check_places(settings: Settings) -> None:
    """For a standby, before it waits. Raises UnexpectedError if the settings say places that cannot be those of this
    server. A catalog in PostgreSQL asks for its store itself, when it knows whose catalog it is."""
    _check_log_settings(settings)
    if not settings.catalog_uri:
        _check_store_before_turn(settings, "", is_filled=False)


def _check_log_settings(settings: Settings) -> None:
    """Raises UnexpectedError."""
    if settings.log_store == OBJECT_LOG and settings.wal_keep_hours:
        raise UnexpectedError("wal.keepHours keeps files of logs: it needs log.store: local")
    if settings.log_store == OBJECT_LOG and place_of(settings) is None:
        raise UnexpectedError("log.store: object needs an object store: set store.uri")


def _check_store_before_turn(settings: Settings, catalog: str, is_filled: bool) -> None:
    place = place_of(settings)
    if place is not None and settings.standby:
        shared = catalog if settings.log_store == OBJECT_LOG else ""
        check_before_turn(Path(settings.data_dir), place, shared, is_filled=is_filled)


def _shared_name(settings: Settings, catalog: Catalog) -> str:
    """The name of a catalog that with an object store is all there is, so that directories may take turns; else ""."""
    is_all = settings.log_store == OBJECT_LOG and all(
        is_in_store(one.checkpoint_file) for one in catalog.snapshot.collections.values()
    )
    return catalog.owner if is_all else ""


def _open_resource_files(root: Path, catalog: Catalog, store: SegmentStore, shared_name: str) -> ResourceFiles:
    """Raises IoFailed."""
    if not shared_name or not isinstance(store, CachedStore):
        return ResourceFiles(root, catalog.file_resource)
    shared = SharedResourceFiles(root, catalog.file_resource, store.objects)
    shared.bring(catalog.snapshot.file_resources.values())
    return shared


def _open_logs(settings: Settings, paths: SegmentPaths, store: SegmentStore, catalog: Catalog) -> ChosenLogs:
    """Raises UnexpectedError if logs are to be in an object store that is not known to create objects conditionally;
    IoFailed if it does not answer."""
    in_store = None
    if isinstance(store, CachedStore):
        if settings.log_store == OBJECT_LOG:
            store.claim()
        in_store = ObjectLogs(store.objects, catalog.epoch)
    return ChosenLogs(LocalLogs(paths, 3600 * settings.wal_keep_hours), in_store, settings.log_store)


def _nothing() -> None:
    pass


def _listen(
    settings: Settings,
    nodes: NodeSet,
    workers: Workers,
    catalog: Catalog,
    loader: Loader,
    clock: HybridClock,
    resource_files: ResourceFiles,
    background: Supervisor,
) -> Callable[[], None]:
    """Lets query nodes register; returns what ends that. Raises UnexpectedError."""
    store = workers.store
    if isinstance(store, CachedStore):
        store.is_held = lambda collection_id, segment_id: not nodes.has_left(collection_id, segment_id)
    certificates = certificates_of(settings)
    check_is_guarded(settings.cluster_host, certificates)
    check = _nothing if catalog.lease is None else catalog.lease.check
    epoch = catalog.epoch or clock.next()
    head = Head(nodes.members, epoch, settings.data_dir, place_of(settings), certificates, resource_files, check)
    nodes.start(loader)
    port = head.start(settings.cluster_host, settings.cluster_port)
    logs.event(_log, logging.INFO, "query nodes may register", address=f"{settings.cluster_host}:{port}")
    if not settings.cluster_ray_address:
        return head.close
    address = f"{settings.cluster_host}:{port}"
    by_ray = RayNodes(
        settings.cluster_ray_address,
        address,
        settings.cluster_ray_directory,
        lambda: catalog.snapshot.resource_groups,
        background,
    )
    by_ray.start()
    place = place_of(settings)
    if place is not None:
        told = {
            "address": settings.cluster_ray_address,
            "directory": settings.cluster_ray_directory,
            "place": place,
        }
        workers.elsewhere = Elsewhere(ray_tasks.__name__, told, by_ray.take_tasks)

    def leave() -> None:
        by_ray.close()
        head.close()

    return leave


def _model_client(settings: Settings) -> ModelClient:
    return ModelClient(_model_hosts(settings), max(1, settings.worker_threads // 2))


def _model_hosts(settings: Settings) -> str:
    """Callers on this machine can call any host themselves; others get no further than the settings say."""
    is_local = not settings.host or is_loopback(settings.host)
    return settings.model_hosts or (EVERY_HOST if is_local else "")


def _import_places(settings: Settings) -> ImportPlaces:
    """Where imports may read: the places of the settings, or else the object store."""
    place = place_of(settings)
    places = settings.import_path or ("" if place is None else place.uri)
    return ImportPlaces(tuple(filter(None, places.split(","))), settings.store_endpoint, settings.store_region)


def _outside_files(settings: Settings) -> OutsideFiles | None:
    """Where file resources may come from: the directory of the settings, or else the object store."""
    if settings.file_resource_path:
        return FilesBelow(Path(settings.file_resource_path))
    place = place_of(settings)
    return None if place is None else FilesInStore(Objects(place))


def _count_under_milvus_names(catalog: Catalog) -> None:
    def sealed_rows() -> int:
        return sum(meta.row_count for metas in catalog.snapshot.segments.values() for meta in metas)

    metrics.milvus_gauges.update(
        {
            "milvus_rootcoord_collection_num": lambda: len(catalog.snapshot.collections),
            "milvus_rootcoord_partition_num": lambda: sum(
                len(one.partitions) for one in catalog.snapshot.collections.values()
            ),
            "milvus_rootcoord_credential_num": lambda: len(catalog.snapshot.users),
            "milvus_querycoord_collection_num": lambda: sum(
                one.load is not None for one in catalog.snapshot.collections.values()
            ),
            "milvus_datacoord_segment_num": lambda: sum(len(metas) for metas in catalog.snapshot.segments.values()),
            "milvus_datacoord_stored_rows_num": sealed_rows,
        }
    )


def facts(settings: Settings, address: str) -> dict[str, Any]:
    """What a server that listens on `address` is, for the log."""
    switches = {
        "authorization": settings.authorization_enabled,
        "tls": settings.tls_mode > 0,
        "audit": settings.audit_enabled,
        "access_log": settings.access_log_enabled,
        "traces": bool(settings.trace_exporter),
        "rates": bool(settings.rates),
    }
    return {
        "version": __version__,
        "directory": settings.data_dir,
        "address": address,
        "metrics_port": settings.metrics_port or "off",
        "memory_limit": settings.memory_limit_bytes,
        "on": [name for name, is_on in switches.items() if is_on],
        "pid": os.getpid(),
    }


def make_application(engine: Engine, intake: Intake) -> Application:
    """The WSGI application of the one port: gRPC by its content type, everything else REST."""
    rest = make_app(engine)

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with intake.visit() as visit:
            if intake.handling.is_closed:  # gRPC clients read it as UNAVAILABLE and retry
                start_response("503 Service Unavailable", [("Content-Length", "0")])
                return []
            if wire.is_grpc(environ):
                return wire.handle(engine, visit, environ, start_response)
            return rest(visit, environ, start_response)

    lease = engine.catalog.lease
    return application if lease is None else _leased(application, lease)


def _leased(application: Application, lease: Lease) -> Application:
    """No answer leaves a head whose lease has run out: another one may have taken over, and what this one has read or
    written may be nobody's any more."""

    def checked(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]]) -> Any:
            lease.check()
            return start_response(status, headers)

        try:
            return application(environ, start)
        except ServiceNotReady as error:
            return not_ready(error, environ, start_response)

    return checked


def not_ready(error: ServiceNotReady, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """The answer of a head that does not serve."""
    answer = grpc_not_serving.answer if wire.is_grpc(environ) else rest_not_serving.answer
    return answer(error, environ, start_response)
