"""File resources: files of words under names, copied into the data directory when they are added.

Analyzers read the copy, so what happens to the outside file later changes nothing.
"""

from __future__ import annotations

from milvine.catalog import file_resources as changes
from milvine.crash_points import crash_point
from milvine.errors import InputError, IoFailed, ParameterInvalid, ParameterMissing
from milvine.model.file_resources import (
    MAX_FILE_BYTES,
    MAX_NAME_CHARACTERS,
    MAX_PATH_CHARACTERS,
    FileResource,
)
from milvine.service.context import Engine, RequestContext
from milvine.service.gate import capability


@capability("AddFileResource")
def add_file_resource(engine: Engine, context: RequestContext, name: str, path: str) -> None:
    """Copies the file. Succeeds if the name is known with the same path."""
    _check_names(name, path)
    content = _outside_content(engine, path)
    resource_id = engine.clock.next()
    file_bytes = engine.resource_files.save(resource_id, content)
    crash_point("file_resource.copied")
    try:
        is_added = changes.add_file_resource(engine.catalog, FileResource(resource_id, name, path, file_bytes))
    except InputError:  # not if the catalog failed, since it may have committed
        engine.resource_files.remove(resource_id)
        raise
    if not is_added:
        engine.resource_files.remove(resource_id)


@capability("RemoveFileResource")
def remove_file_resource(engine: Engine, context: RequestContext, name: str) -> None:
    """Succeeds if there is none of this name. Refused while an analyzer of a collection uses it."""
    removed = changes.remove_file_resource(engine.catalog, name)
    crash_point("file_resource.removed")
    if removed is not None:
        engine.resource_files.remove(removed.resource_id)


@capability("ListFileResources")
def list_file_resources(engine: Engine, context: RequestContext) -> list[FileResource]:
    """All of them by name."""
    return [resource for _, resource in sorted(engine.catalog.snapshot.file_resources.items())]


def _check_names(name: str, path: str) -> None:
    if not name:
        raise ParameterMissing("file resource name")
    for what, value, most in (("name", name, MAX_NAME_CHARACTERS), ("path", path, MAX_PATH_CHARACTERS)):
        if len(value) > most:
            raise ParameterInvalid(f"the {what} of a file resource has {len(value)} characters, more than {most}")
    if not path:
        raise IoFailed("Object name cannot be empty")


def _outside_content(engine: Engine, path: str) -> bytes:
    if engine.outside_files is None:
        raise ParameterInvalid(
            "file resources need a place that files may come from: the setting fileResource.path, a directory, or an "
            "object store (store.uri)"
        )
    content = engine.outside_files.read(path, MAX_FILE_BYTES)
    if content is None:
        raise ParameterInvalid("file resource path not exist")
    return content
