"""Version, health and timestamps, which clients request first."""

from __future__ import annotations

from milvine import MILVUS_VERSION
from milvine.service.context import Engine, RequestContext, check_database
from milvine.service.gate import capability, for_every_user
from milvine.service.weak_defaults import current_warnings


@for_every_user()
def connect(engine: Engine, context: RequestContext) -> int:
    """The identifier of the new client. Raises DatabaseNotFound."""
    check_database(engine, context)
    return engine.clock.next()


@for_every_user()
def get_version(engine: Engine, context: RequestContext) -> str:
    return MILVUS_VERSION


@for_every_user()
def allocate_timestamp(engine: Engine, context: RequestContext) -> int:
    return engine.clock.next()


def is_serving(engine: Engine) -> tuple[bool, list[str]]:
    """Whether requests should be sent here, and the reasons if not: collections loaded before the last stop are not
    loaded again yet, or a background thread has died, which a restart fixes. Work that is retried is not a reason.

    Not a capability: health pages ask for no user.
    """
    reasons = [] if engine.loader.answers.all_loaded() else ["collections are being loaded"]
    reasons += engine.background.dead()
    lease = engine.catalog.lease
    if lease is not None and not lease.is_valid:
        reasons.append(f"the catalog has not answered for too long: {lease.trouble}")
    return not reasons, reasons


@for_every_user()
def get_component_state(engine: Engine, context: RequestContext) -> bool:
    """Whether requests should be sent here."""
    return is_serving(engine)[0]


@for_every_user()
def check_health(engine: Engine, context: RequestContext) -> tuple[bool, list[str]]:
    """Whether the server is healthy, and the reasons if not, including background work that fails repeatedly.
    Reasons of a healthy server are warnings."""
    _, reasons = is_serving(engine)
    reasons += engine.background.failing()
    if engine.catalog.lease is not None and engine.catalog.lease.trouble:
        reasons.append(f"the catalog does not answer: {engine.catalog.lease.trouble}")
    collections = engine.catalog.snapshot.collections
    for collection_id, error in engine.loader.answers.damage():
        if collection_id in collections:
            reasons.append(f"load of collection {collections[collection_id].name}: {error.message}")
    return not reasons, [*reasons, *current_warnings(engine)]


@capability("GetReplicateConfiguration")
def list_replicating_clusters(engine: Engine, context: RequestContext) -> tuple[str, ...]:
    """The clusters that replicate this one: none."""
    return ()
