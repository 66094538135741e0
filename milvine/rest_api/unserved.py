"""Milvus's routes that are not served: refused with the code of the RPCs that are not served."""

from __future__ import annotations

from typing import Any

from milvine.errors import ParameterInvalid, ServiceUnimplemented
from milvine.model.known_keys import REMOVED_BY_MILVUS, unsupported
from milvine.rest_api import schemas
from milvine.rest_api.call import Call, Route

ABSENT = {
    "collections/struct_fields/add": "a struct field",
}
"""Paths and the features that they request."""


def add_function(call: Call) -> dict[str, Any]:
    call.body.text("collectionName")
    schemas.function(call.body.inner("function"))
    raise ParameterInvalid(REMOVED_BY_MILVUS["AddCollectionFunction"])


def drop_function(call: Call) -> dict[str, Any]:
    call.body.text("collectionName")
    raise ParameterInvalid(REMOVED_BY_MILVUS["DropCollectionFunction"])


REMOVED = {
    "collections/add_function": Route(add_function, "CollectionAddFunction", ("collectionName", "function")),
    "collections/drop_function": Route(drop_function, "CollectionDropFunction", ("collectionName", "functionName")),
}
"""Routes that Milvus served once and refuses, too."""


def _refused(what: str) -> Route:
    def refuse(call: Call) -> dict[str, Any]:
        raise ServiceUnimplemented(unsupported(what))

    return Route(refuse, "EmptyReq", ())


ROUTES: dict[str, Route] = {**{path: _refused(what) for path, what in ABSENT.items()}, **REMOVED}
