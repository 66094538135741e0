"""Milvus's routes that are not served: refused with the code of the RPCs that are not served."""

from __future__ import annotations

from typing import Any

from milvine.errors import ServiceUnimplemented
from milvine.model.known_keys import unsupported
from milvine.rest_api.call import Call, Route

ABSENT = {
    "collections/add_function": "a function",
    "collections/add_function_field": "a function",
    "collections/alter_function": "a function",
    "collections/drop_function": "a function",
    "collections/drop_function_field": "a function",
    "collections/fields/drop": "dropping a field",
    "collections/struct_fields/add": "a struct field",
    "jobs/import/abort": "an import",
    "jobs/import/commit": "an import",
    "jobs/import/create": "an import",
    "jobs/import/describe": "an import",
    "jobs/import/get_progress": "an import",
    "jobs/import/list": "an import",
    "jobs/snapshot/export": "a snapshot",
    "jobs/snapshot/restore_external": "a snapshot",
}
"""Paths and the features that they request."""


def _refused(what: str) -> Route:
    def refuse(call: Call) -> dict[str, Any]:
        raise ServiceUnimplemented(unsupported(what))

    return Route(refuse, "EmptyReq", ())


ROUTES: dict[str, Route] = {path: _refused(what) for path, what in ABSENT.items()}
