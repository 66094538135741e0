"""Indexes: create, describe, drop."""

from __future__ import annotations

from collections.abc import Mapping

from milvine.catalog import collections as changes
from milvine.errors import IndexNotFound, ParameterInvalid
from milvine.index import params
from milvine.model.collections import Collection
from milvine.model.properties import WARMUP_PROPERTY
from milvine.model.requests import IndexDescription
from milvine.model.schema import IndexSpec
from milvine.model.types import IndexState
from milvine.service.context import Engine, RequestContext, find_collection


def create_index(
    engine: Engine,
    context: RequestContext,
    name: str,
    field_name: str,
    index_name: str,
    extra_params: Mapping[str, str],
) -> None:
    """Returns once the index is known; it is built in the background. The same index again is a success."""
    collection = find_collection(engine, context, name)
    field = collection.schema.by_name.get(field_name)
    if field is None:
        raise ParameterInvalid(f"cannot create index on non-exist field: {field_name}")
    resolved = params.resolve(field, extra_params)
    index_name = index_name or field_name
    existing = collection.index_by_field.get(field.field_id)
    if existing is not None:
        # One that says how it is warmed up is never the same index again, in Milvus too.
        if existing.params != resolved.user_params or WARMUP_PROPERTY in resolved.user_params:
            raise ParameterInvalid("at most one distinct index is allowed per field")
        if existing.name != index_name:
            raise ParameterInvalid("CreateIndex failed: creating multiple indexes on same field is not supported")
        return
    if any(index.name == index_name for index in collection.indexes):
        raise ParameterInvalid("CreateIndex failed: at most one distinct index is allowed per field")
    spec = IndexSpec(
        engine.clock.next(),
        field.field_id,
        index_name,
        resolved.index_type,
        resolved.metric_type,
        resolved.user_params,
        resolved.build_type,
        resolved.build_params,
    )
    changes.add_index(engine.catalog, collection.collection_id, spec)
    engine.datanode.indexes.look()


def describe_indexes(
    engine: Engine, context: RequestContext, name: str, index_name: str = "", field_name: str = ""
) -> list[IndexDescription]:
    """All indexes, or those of a name or a field. Raises IndexNotFound when there is none."""
    collection = find_collection(engine, context, name)
    found = [
        _describe(engine, collection, index)
        for index in collection.indexes
        if not index_name or index.name == index_name
    ]
    if field_name:
        found = [d for d in found if d.field_name == field_name]
    if not found:
        raise IndexNotFound(**({"indexName": index_name} if index_name else {"collection": name}))
    return found


def _describe(engine: Engine, collection: Collection, index: IndexSpec) -> IndexDescription:
    progress = engine.datanode.indexes.progress(collection.collection_id, index.index_id)
    pending = progress.total_rows - progress.indexed_rows
    state = IndexState.IN_PROGRESS if pending else IndexState.FINISHED
    if progress.failure:
        state = IndexState.FAILED
    return IndexDescription(
        collection,
        index.index_id,
        index.name,
        collection.schema.by_id[index.field_id].name,
        index.params,
        progress.total_rows,
        progress.indexed_rows,
        pending,
        int(state),
        progress.failure,
    )


def drop_index(engine: Engine, context: RequestContext, name: str, index_name: str) -> None:
    """Dropping what is not there is a success; a vector index of a loaded collection is refused."""
    collection = find_collection(engine, context, name)
    index = next((i for i in collection.indexes if i.name == index_name), None)
    if index is None:
        index = next((i for i in collection.indexes if collection.schema.by_id[i.field_id].name == index_name), None)
    if index is None:
        return
    if collection.load is not None:
        raise ParameterInvalid(f"vector index cannot be dropped on loaded collection: {collection.collection_id}")
    changes.drop_index(engine.catalog, collection.collection_id, index.index_id)
    engine.datanode.indexes.dropped(collection.collection_id, index.index_id)
