"""Version, health, timestamps: what clients ask before they work."""

from __future__ import annotations

from milvine import MILVUS_VERSION
from milvine.service.context import Engine


def version() -> str:
    return MILVUS_VERSION


def allocate_timestamp(engine: Engine) -> int:
    return engine.clock.next()


def is_serving(engine: Engine) -> tuple[bool, list[str]]:
    """Whether requests should be sent here, and the reasons if not: what was loaded at the last end is not loaded again
    yet, or a background thread has died, which a restart mends. Work that fails and is tried again is no reason."""
    reasons = [] if engine.loader.all_loaded() else ["collections are being loaded"]
    reasons += engine.background.dead()
    return not reasons, reasons


def is_healthy(engine: Engine) -> tuple[bool, list[str]]:
    """Whether all is well, and the reasons if not, background work that fails again and again included."""
    _, reasons = is_serving(engine)
    reasons += engine.background.failing()
    return not reasons, reasons
