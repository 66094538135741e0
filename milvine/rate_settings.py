"""The settings of request rates, as in Milvus: for the server, and for each database, collection and partition.

A rate holds only if its kind's switch (`quotaAndLimits.dml.enabled` and so on) is on. Negative means no limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from milvine.model.records import record

_PREFIX = "quotaAndLimits."
_ENABLED, _DENY_ALL_DDL = "quotaAndLimits.enabled", "quotaAndLimits.forceDenyAllDDL"
_MB = 1 << 20


class Level(StrEnum):
    """What one bucket is shared by."""

    CLUSTER = "cluster"
    DATABASE = "database"
    COLLECTION = "collection"
    PARTITION = "partition"


@record
class RateSetting:
    """`kind` is Milvus's name of the kind of request. `unit`: what one unit of the value counts."""

    kind: str
    level: Level
    key: str
    switch: str
    unit: int = 1


def _rows(kind: str, group: str, rate: str, unit: int) -> tuple[RateSetting, ...]:
    """The four rates of a kind that reads or writes rows."""
    switch, key = f"{_PREFIX}{group}.enabled", f"{_PREFIX}{group}.{rate}"
    return (
        RateSetting(kind, Level.CLUSTER, f"{key}.max", switch, unit),
        RateSetting(kind, Level.DATABASE, f"{key}.db.max", switch, unit),
        RateSetting(kind, Level.COLLECTION, f"{key}.collection.max", switch, unit),
        RateSetting(kind, Level.PARTITION, f"{key}.partition.max", switch, unit),
    )


def _changes(kind: str, group: str, of_cluster: str, of_database: str) -> tuple[RateSetting, ...]:
    """The two rates of a kind that changes definitions."""
    switch = f"{_PREFIX}{group}.enabled"
    return (
        RateSetting(kind, Level.CLUSTER, f"{_PREFIX}{group}.{of_cluster}", switch),
        RateSetting(kind, Level.DATABASE, f"{_PREFIX}{group}.{of_database}", switch),
    )


RATE_SETTINGS: tuple[RateSetting, ...] = (
    *_changes("DDLCollection", "ddl", "collectionRate", "db.collectionRate"),
    *_changes("DDLPartition", "ddl", "partitionRate", "db.partitionRate"),
    *_changes("DDLIndex", "indexRate", "max", "db.max"),
    *_changes("DDLFlush", "flushRate", "max", "db.max"),
    RateSetting(
        "DDLFlush",
        Level.COLLECTION,
        "quotaAndLimits.flushRate.collection.max",
        "quotaAndLimits.flushRate.enabled",
    ),
    *_changes("DDLCompaction", "compactionRate", "max", "db.max"),
    RateSetting("DDLDB", Level.CLUSTER, "quotaAndLimits.dbRate.max", "quotaAndLimits.dbRate.enabled"),
    *_rows("DMLInsert", "dml", "insertRate", _MB),
    *_rows("DMLDelete", "dml", "deleteRate", _MB),
    *_rows("DMLBulkLoad", "dml", "bulkLoadRate", _MB),
    *_rows("DQLSearch", "dql", "searchRate", 1),
    *_rows("DQLQuery", "dql", "queryRate", 1),
)
_ON_BY_DEFAULT = frozenset({"quotaAndLimits.flushRate.enabled"})
_NOT_DDL = "DDLFlush"

RATE_KEYS = frozenset(
    {_ENABLED, _DENY_ALL_DDL, *(one for setting in RATE_SETTINGS for one in (setting.key, setting.switch))}
)
"""Every key that `read_rates` looks up."""

Rates = Mapping[str, Mapping[str, float]]
"""Requests, vectors or bytes per second by kind and, inside, by level."""


def read_rates(
    lookup: Callable[[str], object], parse_bool: Callable[[object], bool], parse_number: Callable[[object], float]
) -> dict[str, dict[str, float]]:
    """The rates that hold. `lookup` gives the value of a key, or None. Raises ValueError naming the key."""

    def read(key: str, parse: Callable[[object], float], otherwise: float) -> float:
        found = lookup(key)
        try:
            return otherwise if found is None else parse(found)
        except (TypeError, ValueError) as error:
            raise ValueError(f"setting {key}: cannot read {found!r}: {error}") from error

    def is_on(key: str, otherwise: bool) -> bool:
        return bool(read(key, parse_bool, otherwise))

    rates: dict[str, dict[str, float]] = {}
    if not is_on(_ENABLED, True):
        return rates
    denies = is_on(_DENY_ALL_DDL, False)
    for setting in RATE_SETTINGS:
        rate = read(setting.key, parse_number, -1.0)
        if denies and setting.kind.startswith("DDL") and setting.kind != _NOT_DDL:
            rate = 0.0
        elif not is_on(setting.switch, setting.switch in _ON_BY_DEFAULT):
            continue
        if 0 <= rate < float("inf"):
            rates.setdefault(setting.kind, {})[setting.level.value] = rate * setting.unit
    return rates
