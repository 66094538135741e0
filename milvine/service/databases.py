"""Databases: create, drop, describe, list, alter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from milvine.catalog import databases as changes
from milvine.errors import (
    DatabaseNotFound,
    ParameterInvalid,
    PrivilegeNotPermitted,
    ResourceGroupNotFound,
    UnexpectedError,
)
from milvine.model.collections import DEFAULT_DATABASE, Database
from milvine.model.known_keys import DATABASE, refuse_unserved
from milvine.model.schema_rules import check_database_name, check_timezone
from milvine.service.context import Engine, RequestContext
from milvine.service.deny_rules import DATABASE_CHANGE
from milvine.service.gate import capability, for_every_user, sees_database
from milvine.service.replicas import DATABASE_RESOURCE_GROUPS, listed_groups

_CIPHER_ENABLED = "cipher.enabled"
_CIPHER_KEYS = frozenset({_CIPHER_ENABLED, "cipher.key", "cipher.ezID"})


@capability("CreateDatabase", denied_as=DATABASE_CHANGE)
def create_database(engine: Engine, context: RequestContext, name: str, properties: Mapping[str, str]) -> None:
    check_database_name(name)
    refuse_unserved(DATABASE, properties)
    check_timezone(properties)
    enabled = properties.get(_CIPHER_ENABLED, "false").lower()
    if enabled not in ("true", "false"):
        value = properties[_CIPHER_ENABLED]
        raise ParameterInvalid(f'invalid value for {_CIPHER_ENABLED}: "{value}", must be "true" or "false"')
    if enabled == "true":
        raise UnexpectedError("failed to tidy database cipher properties: cipher plugin is missing")
    kept = {k: v for k, v in properties.items() if k not in _CIPHER_KEYS}
    changes.create_database(engine.catalog, Database(engine.clock.next(), name, engine.clock.next(), kept))


@capability("DropDatabase", denied_as=DATABASE_CHANGE)
def drop_database(engine: Engine, context: RequestContext, name: str) -> None:
    check_database_name(name)
    changes.drop_database(engine.catalog, name)


@for_every_user()
def list_databases(engine: Engine, context: RequestContext) -> list[Database]:
    """Those that the caller may see, by name."""
    databases = engine.catalog.snapshot.databases
    return [databases[name] for name in sorted(databases) if sees_database(engine, context, name)]


@capability("DescribeDatabase")
def describe_database(engine: Engine, context: RequestContext, name: str) -> Database:
    if not sees_database(engine, context, name or DEFAULT_DATABASE):
        raise PrivilegeNotPermitted(f"not allowed to access database, db name: {name}")
    database = engine.catalog.snapshot.databases.get(name or DEFAULT_DATABASE)
    if database is None:
        raise DatabaseNotFound(name)
    return database


@capability("AlterDatabase", denied_as=DATABASE_CHANGE)
def alter_database(
    engine: Engine, context: RequestContext, name: str, properties: Mapping[str, str], delete_keys: Sequence[str]
) -> None:
    """Sets or deletes properties; one call cannot do both."""
    for group in listed_groups(properties.get(DATABASE_RESOURCE_GROUPS, "")):
        if group not in engine.catalog.snapshot.resource_groups:
            raise ResourceGroupNotFound(group)
    refuse_unserved(DATABASE, properties)
    check_timezone(properties)
    if not name:
        raise ParameterInvalid("alter database failed, database name does not exists")
    if not properties and not delete_keys:
        raise ParameterInvalid(
            "alter database with empty properties and delete keys, expected to set either properties or delete keys"
        )
    if properties and delete_keys:
        raise ParameterInvalid("alter database cannot modify properties and delete keys at the same time")
    if not _CIPHER_KEYS.isdisjoint([*properties, *delete_keys]):
        raise ParameterInvalid("can not alter cipher related properties")

    def changed(old: Mapping[str, str]) -> Mapping[str, str]:
        return {k: v for k, v in {**old, **properties}.items() if k not in delete_keys}

    changes.change_properties(engine.catalog, name, changed)
