"""Denies whole kinds of calls, by RPC names, as set in the settings and the properties of a database."""

from __future__ import annotations

from milvine.errors import AccessDisabled
from milvine.service.context import Engine, RequestContext

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_DDL = "database.force.deny.ddl"
_WRITING, _READING = "database.force.deny.writing", "database.force.deny.reading"
_COLLECTION, _PARTITION = "database.force.deny.collectionDDL", "database.force.deny.partitionDDL"
_INDEX, _FLUSH, _COMPACTION = (f"database.force.deny.{what}" for what in ("index", "flush", "compaction"))
_REASONS = {
    _WRITING: "force deny writing in database properties",
    _READING: "force deny reading in database properties",
}
_PROPERTIES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("Insert", "Upsert", "Delete", "Import"), (_WRITING,)),
    **dict.fromkeys(("Search", "HybridSearch", "Query"), (_READING,)),
    **dict.fromkeys(("CreateCollection", "DropCollection", "LoadCollection", "ReleaseCollection"), (_COLLECTION, _DDL)),
    **dict.fromkeys(("CreatePartition", "DropPartition", "LoadPartitions", "ReleasePartitions"), (_PARTITION, _DDL)),
    **dict.fromkeys(("CreateIndex", "DropIndex"), (_INDEX, _DDL)),
    "Flush": (_FLUSH, _DDL),
    "ManualCompaction": (_COMPACTION, _DDL),
}


def check_allowed(engine: Engine, context: RequestContext, method: str) -> None:
    """Raises AccessDisabled if the settings or the database's properties deny this kind of RPC."""
    names = _PROPERTIES.get(method)
    if names is None:
        return
    if engine.settings.deny_writing and _WRITING in names:
        raise AccessDisabled("config force deny writing")
    if engine.settings.deny_reading and _READING in names:
        raise AccessDisabled("config force deny reading")
    database = engine.catalog.snapshot.databases.get(context.database)
    if database is None or not database.properties:
        return
    for name in names:
        if database.properties.get(name) in _TRUE:
            raise AccessDisabled(_REASONS.get(name, "force deny DDL in database properties"))
