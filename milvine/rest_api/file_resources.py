"""/v2/vectordb/file_resources/."""

from __future__ import annotations

from typing import Any

from milvine.rest_api.call import Call, Route
from milvine.service import file_resources


def add_file_resource(call: Call) -> dict[str, Any]:
    file_resources.add_file_resource(call.engine, call.context, call.body.text("name"), call.body.text("path"))
    return {"data": {}}


def remove_file_resource(call: Call) -> dict[str, Any]:
    file_resources.remove_file_resource(call.engine, call.context, call.body.text("name"))
    return {"data": {}}


def list_file_resources(call: Call) -> dict[str, Any]:
    found = file_resources.list_file_resources(call.engine, call.context)
    as_id = str if call.int64_as_text else int
    return {"data": [{"id": as_id(one.resource_id), "name": one.name, "path": one.path} for one in found]}


ROUTES: dict[str, Route] = {
    "file_resources/add": Route(add_file_resource, "FileResourceReq", ("name", "path")),
    "file_resources/list": Route(list_file_resources, "EmptyReq", ()),
    "file_resources/remove": Route(remove_file_resource, "FileResourceNameReq", ("name",)),
}
