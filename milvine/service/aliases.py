"""Names of collections: aliases and renaming."""

from __future__ import annotations

from milvine.catalog import names as changes
from milvine.errors import AliasNotFound, CollectionNotFound, ParameterInvalid
from milvine.model.schema_rules import check_collection_name
from milvine.service.context import Engine, RequestContext, check_database
from milvine.service.gate import capability, sees


@capability("CreateAlias")
def create_alias(engine: Engine, context: RequestContext, alias: str, name: str) -> None:
    """Succeeds if the alias exists already; an alias of another collection is refused."""
    check_collection_name(alias, "alias")
    check_collection_name(name)
    changes.create_alias(engine.catalog, context.database, alias, name, engine.clock.next())


@capability("CreateAlias")
def alter_alias(engine: Engine, context: RequestContext, alias: str, name: str) -> None:
    check_collection_name(alias, "alias")
    check_collection_name(name)
    changes.alter_alias(engine.catalog, context.database, alias, name)


@capability("DropAlias")
def drop_alias(engine: Engine, context: RequestContext, alias: str) -> None:
    """Succeeds if the alias does not exist or is not a valid name."""
    changes.drop_alias(engine.catalog, context.database, alias.strip())


@capability("DescribeAlias")
def describe_alias(engine: Engine, context: RequestContext, alias: str) -> str:
    """The name of the collection."""
    check_collection_name(alias, "alias")
    check_database(engine, context)
    snapshot = engine.catalog.snapshot
    found = snapshot.aliases.get((context.database, alias))
    if found is None:
        raise AliasNotFound(context.database, alias)
    collection = snapshot.collections[found.collection_id]
    if not sees(engine, context, collection):
        raise AliasNotFound(context.database, alias)
    return collection.name


@capability("ListAliases")
def list_aliases(engine: Engine, context: RequestContext, name: str = "") -> list[str]:
    """The aliases of a collection or, without a name, of all collections in the database that the caller may see."""
    if name:
        check_collection_name(name)
    check_database(engine, context)
    snapshot = engine.catalog.snapshot
    if not name:
        here = [a for a in snapshot.aliases.values() if a.database == context.database]
        return sorted(a.name for a in here if sees(engine, context, snapshot.collections[a.collection_id]))
    collection = snapshot.find(context.database, name)
    if collection is None or not sees(engine, context, collection):
        raise CollectionNotFound(name, None)
    return snapshot.aliases_of(collection.collection_id)


@capability("RenameCollection", moves_to="new_database")
def rename_collection(
    engine: Engine, context: RequestContext, name: str, new_name: str, new_database: str = ""
) -> None:
    """Renames, also into another database. Loaded data stays loaded, and reads in flight are not affected."""
    check_collection_name(new_name)
    if not name:
        raise ParameterInvalid("old collection name should not be empty")
    new_database = new_database or context.database
    if (context.database, name) == (new_database, new_name):
        raise ParameterInvalid("collection name or database name should be different")
    changes.rename_collection(engine.catalog, context.database, name, new_database, new_name)
