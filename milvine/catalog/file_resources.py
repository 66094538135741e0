"""Changes to file resources. Checks run inside the transaction."""

from __future__ import annotations

from dataclasses import asdict, replace

import sqlalchemy as sa

from milvine.catalog import tables
from milvine.catalog.contents import Snapshot
from milvine.catalog.store import Catalog
from milvine.errors import ParameterInvalid, QuotaExceeded
from milvine.model.analyzer_params import file_resources_of
from milvine.model.file_resources import MAX_RESOURCES, FileResource
from milvine.model.schema import CollectionSchema


def insert_file_resource(connection: sa.Connection, resource: FileResource) -> None:
    connection.execute(sa.insert(tables.file_resources).values(asdict(resource)))


def add_file_resource(catalog: Catalog, resource: FileResource) -> bool:
    """False, with nothing changed, if the name is known with the same path. Another path is refused."""
    is_added = True

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        nonlocal is_added
        known = snapshot.file_resources.get(resource.name)
        if known is not None and known.path != resource.path:
            raise ParameterInvalid(f"file resource {resource.name} already exists")
        if known is not None:
            is_added = False
            return snapshot
        if len(snapshot.file_resources) >= MAX_RESOURCES:
            raise QuotaExceeded(f"there may be {MAX_RESOURCES} file resources")
        insert_file_resource(connection, resource)
        return replace(snapshot, file_resources={**snapshot.file_resources, resource.name: resource})

    catalog.change(work)
    return is_added


def remove_file_resource(catalog: Catalog, name: str) -> FileResource | None:
    """The removed resource; None if there is none. One that an analyzer of a collection names is refused."""
    removed: FileResource | None = None

    def work(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
        nonlocal removed
        removed = snapshot.file_resources.get(name)
        if removed is None:
            return snapshot
        if uses := sum(name in file_resources_of(c.schema) for c in snapshot.collections.values()):
            raise ParameterInvalid(f"file resource {name} is still in use: {uses}")
        table = tables.file_resources
        connection.execute(sa.delete(table).where(table.c.resource_id == removed.resource_id))
        return replace(snapshot, file_resources={n: r for n, r in snapshot.file_resources.items() if n != name})

    catalog.change(work)
    return removed


def check_file_resources(snapshot: Snapshot, schema: CollectionSchema) -> None:
    """Raises ParameterInvalid for a resource that was removed since the schema's analyzers were checked."""
    for name in sorted(file_resources_of(schema) - snapshot.file_resources.keys()):
        raise ParameterInvalid(f"file resource {name} not found")
