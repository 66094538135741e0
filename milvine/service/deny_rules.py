"""Denies whole kinds of calls, as set in the settings and the properties of a database."""

from __future__ import annotations

from milvine.errors import AccessDisabled
from milvine.service.context import Engine

Kind = tuple[str, ...]
"""The properties of a database, any of which denies calls of a kind."""

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_DDL = "database.force.deny.ddl"
_WRITING, _READING = "database.force.deny.writing", "database.force.deny.reading"
WRITING: Kind = (_WRITING,)
READING: Kind = (_READING,)
COLLECTION_CHANGE: Kind = ("database.force.deny.collectionDDL", _DDL)
PARTITION_CHANGE: Kind = ("database.force.deny.partitionDDL", _DDL)
INDEX_CHANGE: Kind = ("database.force.deny.index", _DDL)
FLUSHING: Kind = ("database.force.deny.flush", _DDL)
COMPACTION: Kind = ("database.force.deny.compaction", _DDL)
_REASONS = {
    _WRITING: "force deny writing in database properties",
    _READING: "force deny reading in database properties",
}


def check_allowed(engine: Engine, database_name: str, kind: Kind) -> None:
    """Raises AccessDisabled if the settings or the database's properties deny this kind of call."""
    if engine.settings.deny_writing and kind is WRITING:
        raise AccessDisabled("config force deny writing")
    if engine.settings.deny_reading and kind is READING:
        raise AccessDisabled("config force deny reading")
    database = engine.catalog.snapshot.databases.get(database_name)
    if database is None or not database.properties:
        return
    for name in kind:
        if database.properties.get(name) in _TRUE:
            raise AccessDisabled(_REASONS.get(name, "force deny DDL in database properties"))
