"""Version, health, timestamps: what clients ask before they work."""

from __future__ import annotations

from milvine import MILVUS_VERSION
from milvine.service.context import Engine


def version() -> str:
    return MILVUS_VERSION


def allocate_timestamp(engine: Engine) -> int:
    return engine.clock.next()


def is_healthy(engine: Engine) -> tuple[bool, list[str]]:
    """Healthy once all that was loaded before the start is loaded again."""
    if engine.loader.all_loaded():
        return True, []
    return False, ["collections are being loaded"]
