"""Denies whole kinds of calls, as set in the settings and the properties of a database."""

from __future__ import annotations

from typing import NamedTuple

from milvine.errors import AccessDisabled
from milvine.service.context import Engine


class Kind(NamedTuple):
    """`properties`: those of a database, any of which denies calls of this kind. `rate`: the rate that counts calls of
    this kind, if each counts as one; searches and writes are counted where their size is known."""

    properties: tuple[str, ...] = ()
    rate: str = ""


_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_DDL = "database.force.deny.ddl"
_WRITING, _READING = "database.force.deny.writing", "database.force.deny.reading"
WRITING = Kind((_WRITING,))
READING = Kind((_READING,))
COLLECTION_CHANGE = Kind(("database.force.deny.collectionDDL", _DDL), "DDLCollection")
PARTITION_CHANGE = Kind(("database.force.deny.partitionDDL", _DDL), "DDLPartition")
INDEX_CHANGE = Kind(("database.force.deny.index", _DDL), "DDLIndex")
FLUSHING = Kind(("database.force.deny.flush", _DDL), "DDLFlush")
COMPACTION = Kind(("database.force.deny.compaction", _DDL), "DDLCompaction")
DATABASE_CHANGE = Kind(rate="DDLDB")
_REASONS = {
    _WRITING: "force deny writing in database properties",
    _READING: "force deny reading in database properties",
}


def check_allowed(engine: Engine, database_name: str, kind: Kind) -> None:
    """Raises AccessDisabled if the settings or the database's properties deny this kind of call, RateExceeded or
    RateIsZero if there are too many."""
    settings = engine.settings
    if not settings.limits_enabled:
        return
    if settings.deny_writing and kind is WRITING:
        raise AccessDisabled("config force deny writing")
    if settings.deny_reading and kind is READING:
        raise AccessDisabled("config force deny reading")
    database = engine.catalog.snapshot.databases.get(database_name)
    if database is not None and database.properties:
        for name in kind.properties:
            if database.properties.get(name) in _TRUE:
                raise AccessDisabled(_REASONS.get(name, "force deny DDL in database properties"))
    if kind.rate:
        engine.rates.check_call(kind.rate, database_name)
