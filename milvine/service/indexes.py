"""Indexes: create, describe, drop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from milvine.catalog import collections as changes
from milvine.config import CODES
from milvine.errors import IndexNotFound, ParameterInvalid
from milvine.index.scalar_params import JSON_PATH, resolve_scalar
from milvine.index.scalar_type import PATH
from milvine.index.vector_params import resolve
from milvine.model.collections import Collection
from milvine.model.properties import INDEX_PROPERTIES
from milvine.model.requests import IndexDescription
from milvine.model.schema import FieldSchema, IndexSpec, flatten_params
from milvine.model.schema_rules import check_index_name
from milvine.model.types import DataType, IndexState
from milvine.service.context import Engine, RequestContext, find_by_any_name, find_collection
from milvine.service.deny_rules import INDEX_CHANGE
from milvine.service.field_paths import field_path
from milvine.service.gate import capability, find_seen


@capability("CreateIndex", on="name", denied_as=INDEX_CHANGE)
def create_index(
    engine: Engine,
    context: RequestContext,
    name: str,
    field_name: str,
    index_name: str,
    extra_params: Mapping[str, str],
) -> None:
    """Returns once the index is stored; it is built in the background. Succeeds if the same index exists."""
    collection = find_by_any_name(engine, context, name)
    check_index_name(index_name)
    field = collection.schema.by_name.get(field_name) or collection.schema.dynamic_field
    if field is None:
        raise ParameterInvalid(f"cannot create index on non-exist field: {field_name}")
    if field.data_type.is_vector:
        saves_memory = engine.settings.autoindex_memory_policy == CODES
        resolved = resolve(field, extra_params, saves_memory=saves_memory)
    else:
        resolved = resolve_scalar(field, extra_params)
    build_params = resolved.build_params
    if field.data_type is DataType.JSON:
        path_text = flatten_params(extra_params).get(JSON_PATH, field_name)
        build_params = {**build_params, PATH: list(field_path(collection.schema, field, path_text))}
    spec = IndexSpec(
        engine.clock.next(),
        field.field_id,
        index_name or _default_name(collection, field, build_params),
        resolved.index_type,
        resolved.metric_type,
        resolved.user_params,
        resolved.build_type,
        build_params,
    )
    if any(_is_same(spec, index) for index in collection.user_indexes):
        return
    changes.add_index(engine.catalog, collection.collection_id, spec)
    engine.datanode.indexes.look()


def _pointer(build_params: Mapping[str, Any]) -> str:
    """The path of a JSON index as a JSON pointer; empty for the whole field, and for other fields."""
    steps = [str(step).replace("~", "~0").replace("/", "~1") for step in build_params.get(PATH, ())]
    return "".join(f"/{step}" for step in steps)


def _default_name(collection: Collection, field: FieldSchema, build_params: Mapping[str, Any]) -> str:
    pointer = _pointer(build_params)
    same = [i for i in collection.user_indexes if i.field_id == field.field_id and _pointer(i.build_params) == pointer]
    return same[0].name if same else field.name + pointer


def _is_same(wanted: IndexSpec, index: IndexSpec) -> bool:
    """Whether the two indexes are the same. Raises ParameterInvalid if they cannot both exist."""
    is_same_place = wanted.field_id == index.field_id and _pointer(wanted.build_params) == _pointer(index.build_params)
    if wanted.name == index.name:
        # Alterable parameters of the existing index are ignored. A request with such a parameter is for another index,
        # as in Milvus, since the parameter would have no effect.
        kept = {k: v for k, v in index.named_params.items() if k not in INDEX_PROPERTIES}
        if (
            is_same_place
            and wanted.index_type == index.index_type
            and _typeless(wanted.named_params) == _typeless(kept)
        ):
            return True
        raise ParameterInvalid("at most one distinct index is allowed per field")
    if is_same_place:
        raise ParameterInvalid("CreateIndex failed: creating multiple indexes on same field is not supported")
    return False


def _typeless(params: Mapping[str, str]) -> dict[str, str]:
    """The parameters without the type, which may be omitted."""
    return {k: v for k, v in params.items() if k != "index_type"}


def _field_name(collection: Collection, index: IndexSpec) -> str:
    """A key of the dynamic field also counts as a field."""
    field = collection.schema.by_id[index.field_id]
    path = index.build_params.get(PATH, ())
    return str(path[0]) if field.is_dynamic and path else field.name


@capability("IndexDetail", on="name")
def describe_indexes(
    engine: Engine, context: RequestContext, name: str, index_name: str = "", field_name: str = ""
) -> list[IndexDescription]:
    """All indexes, or those of a name or a field. Raises IndexNotFound if there are none."""
    collection = find_seen(engine, context, name)
    found = [
        _describe(engine, collection, index)
        for index in collection.user_indexes
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
        _field_name(collection, index),
        index.params,
        progress.total_rows,
        progress.indexed_rows,
        pending,
        int(state),
        progress.failure,
    )


@capability("DropIndex", on="name", denied_as=INDEX_CHANGE)
def drop_index(engine: Engine, context: RequestContext, name: str, index_name: str) -> None:
    """Succeeds if the index does not exist. A vector index of a loaded collection is refused."""
    collection = find_collection(engine, context, name)
    index = next((i for i in collection.user_indexes if i.name == index_name), None)
    if index is None:
        index = next((i for i in collection.user_indexes if _field_name(collection, i) == index_name), None)
    if index is None:
        return
    if collection.load is not None and index.metric_type is not None:
        raise ParameterInvalid(f"vector index cannot be dropped on loaded collection: {collection.collection_id}")
    changes.drop_index(engine.catalog, collection.collection_id, index.index_id)
    engine.datanode.indexes.dropped(collection.collection_id, index.index_id)
