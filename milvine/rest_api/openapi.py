"""The OpenAPI description of every route, made of the routes and of the keys that the bodies may have."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from milvine import __version__
from milvine.model.known_keys import KEYS, Verdict
from milvine.rest_api.call import Route, Version

Schema = dict[str, Any]
_ANY: Schema = {}
_OBJECT: Schema = {"type": "object"}
_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_FLAG: Schema = {"type": "boolean"}
_INT32: Schema = {"type": "integer", "format": "int32"}
_INT64: Schema = {"type": "integer", "format": "int64"}


def _all(schema: Schema, names: str) -> dict[str, Schema]:
    return dict.fromkeys(names.split(), schema)


TYPES: Mapping[str, Schema] = {
    **_all(
        _TEXT, "aliasName analyzerParams annsField collectionName consistencyLevel dbName description fieldName filter"
    ),
    **_all(_TEXT, "groupingField idType indexName keyName metricType name newCollectionName newDbName newPassword"),
    **_all(_TEXT, "objectName objectType partitionName password primaryField primaryFieldName privilege roleName"),
    **_all(_TEXT, "privilegeGroupName sourceRgName targetRgName userName vectorField vectorFieldName vectorFieldType"),
    **_all(_TEXT, "dataType elementDataType externalSource externalSpec path backupId"),
    **_all(_TEXT, "collectionId exportId snapshotName targetS3Path snapshotMetadataURI targetCollectionName"),
    **_all(_TEXT, "pinId targetDbName"),
    **_all(_TEXTS, "analyzerNames groupByFields loadFields orderByFields outputFields partitionNames privileges"),
    **_all(_TEXTS, "propertyKeys roles text"),
    **_all(_FLAG, "autoID enableDynamicField isClustering isPartitionKey isPrimary nullable partialUpdate withDetail"),
    **_all(_FLAG, "skipLoadDynamicField withHash"),
    **_all(_INT32, "dimension expiresInSeconds groupSize limit offset segment row"),
    **_all(_INT64, "collectionID jobID jobId protectionSeconds replicaNum ttlSeconds"),
    "JobIDReq.jobId": _TEXT,
    **_all({"type": "array", "items": _INT64}, "segmentIDs"),
    **_all({"type": "array", "items": _TEXTS}, "files"),
    **_all({"type": "array", "items": _ANY}, "ids vector"),
    **_all(_OBJECT, "function outputField"),
    **_all(_TEXT, "functionName"),
    **_all(_INT64, "fieldId"),
    "CollectionAddFunctionField.indexParams": _OBJECT,
    **_all({"type": "array", "items": _OBJECT}, "fieldOps fields functionChains functions indexParams search"),
    **_all(_OBJECT, "config elementTypeParams exprParams fieldParams functionScore options params properties rerank"),
    **_all(_OBJECT, "resource_groups schema searchAggregation searchParams typeParams"),
    **_all(_ANY, "data defaultValue id"),
}
"""The JSON type of each key, the same in all bodies unless the body is named, too. `data`: a list of rows,
one row, or a list of queries."""


def _body(kind: str, required: Iterable[str] = ()) -> Schema:
    served = [key for key, known in KEYS[kind].items() if known.verdict is Verdict.SERVED]
    schema: Schema = {"type": "object", "properties": {key: _value(kind, key) for key in served}}
    needed = [name for name in required if "/" not in name]
    either = [name.split("/") for name in required if "/" in name]
    if needed:
        schema["required"] = needed
    if either:
        schema["anyOf"] = [{"required": [name]} for names in either for name in names]
    return schema


def _value(kind: str, key: str) -> Schema:
    """The schema of a key; that of an object whose own keys are known has them."""
    inner = f"{kind}.{key}"
    found = TYPES.get(inner, TYPES.get(key, _ANY))
    if inner not in KEYS:
        return found
    return {"type": "array", "items": _body(inner)} if found.get("type") == "array" else _body(inner)


def _parameters(schema: Schema) -> list[dict[str, Any]]:
    """A body as the query of an address."""
    required = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": found}
        for name, found in schema["properties"].items()
    ]


_RESPONSES = {
    "200": {
        "description": "The answer, or Milvus's code and text of an error",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}},
    },
    "401": {"description": "The user is not known"},
    "403": {"description": "The user may not do that, or the request comes from a foreign page"},
    "415": {"description": "The body's type is not JSON"},
    "429": {"description": "Too many requests"},
}


def _text(handler: Callable[..., Any]) -> str:
    return inspect.cleandoc(handler.__doc__ or "")


def _operation(version: Version, path: str, route: Route, *, is_served: bool) -> dict[str, Any]:
    schema = _body(route.kind, route.required)
    operation: dict[str, Any] = {
        "operationId": (version.prefix + path).strip("/").replace("/", "_"),
        "summary": path.replace("/", " ").replace("_", " "),
        "tags": [version.prefix.strip("/")],
        "responses": _RESPONSES,
    }
    if not is_served:
        operation |= {
            "deprecated": True,
            "description": "A route of Milvus that is refused here, with code 10.",
        }
    elif text := _text(route.handler):
        operation["description"] = text
    if route.method == "GET":
        return operation | {"parameters": _parameters(schema)}
    return operation | {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _plain(summary: str, media_type: str) -> dict[str, Any]:
    answer = {"description": summary, "content": {media_type: {"schema": _TEXT}}}
    return {"get": {"summary": summary, "tags": ["server"], "security": [], "responses": {"200": answer}}}


def describe(versions: Iterable[Version], refused: Mapping[str, Route]) -> dict[str, Any]:
    """`refused`: routes of the versions that always refuse."""
    paths: dict[str, Any] = {
        "/healthz": _plain("Whether the server is healthy", "text/plain"),
        "/metrics": _plain("The metrics, for Prometheus", "text/plain"),
    }
    for version in versions:
        for path, route in version.routes.items():
            is_served = route is not refused.get(path)
            operation = _operation(version, path, route, is_served=is_served)
            paths[version.prefix + path] = {route.method.lower(): operation}
    answer = {
        "type": "object",
        "required": ["code"],
        "properties": {"code": {"type": "integer"}, "message": _TEXT, "data": _ANY},
    }
    schemes = {"password": {"type": "http", "scheme": "basic"}, "token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Milvine",
            "version": __version__,
            "description": "Milvus's REST, and routes of our own below /milvine/v1/. Success is code 0, in v1 200. "
            "Keys are read in any letter case. With authorization on, every route asks for a user.",
        },
        "security": [{}, {"password": []}, {"token": []}],
        "paths": paths,
        "components": {"schemas": {"Answer": answer}, "securitySchemes": schemes},
    }
