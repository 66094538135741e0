"""Version, health and timestamps, which clients request first."""

from __future__ import annotations

from milvine import MILVUS_VERSION
from milvine.service.context import Engine


def version() -> str:
    return MILVUS_VERSION


def allocate_timestamp(engine: Engine) -> int:
    return engine.clock.next()


def is_serving(engine: Engine) -> tuple[bool, list[str]]:
    """Whether requests should be sent here, and the reasons if not: collections loaded before the last stop are not
    loaded again yet, or a background thread has died, which a restart fixes. Work that is retried is not a reason."""
    reasons = [] if engine.loader.all_loaded() else ["collections are being loaded"]
    reasons += engine.background.dead()
    return not reasons, reasons


def is_healthy(engine: Engine) -> tuple[bool, list[str]]:
    """Whether the server is healthy, and the reasons if not, including background work that fails repeatedly."""
    _, reasons = is_serving(engine)
    reasons += engine.background.failing()
    return not reasons, reasons
