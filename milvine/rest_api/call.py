"""The argument of handlers, and routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from milvine.errors import (
    MilvineError,
    ParameterInvalid,
    PermissionDenied,
    RejectedByLimiter,
    RestPermissionDenied,
    RestRejected,
)
from milvine.model.collections import Collection
from milvine.model.records import record
from milvine.model.schema import CollectionSchema
from milvine.rest_api.body import Body, parse_int64
from milvine.service import collections
from milvine.service.context import Engine, RequestContext


@record
class Call:
    """`int64_as_text`: numbers of the client cannot hold 64 bits."""

    engine: Engine
    context: RequestContext
    body: Body
    int64_as_text: bool

    @property
    def name(self) -> str:
        return self.body.text("collectionName")

    def collection(self, capability: Callable[..., Any]) -> Collection:
        """The collection of a call of `capability`."""
        return collections.collection_for(self.engine, self.context, capability, self.name)

    def schema(self, capability: Callable[..., Any]) -> CollectionSchema:
        return self.collection(capability).schema


def job_id_of(call: Call) -> int:
    """The number of the job that a call changes or asks for. Raises ParameterInvalid."""
    text = call.body.text("jobId")
    try:
        return parse_int64(text)
    except ValueError as error:
        raise ParameterInvalid(str(error), expected="int64 jobId", actual=text) from error


@record
class Content:
    """An answer that is not JSON."""

    media_type: str
    data: bytes


Handler = Callable[[Call], dict[str, Any] | Content]
"""Answers the envelope without its code, or content."""


@record
class Route:
    """`kind` is Milvus's name for the body; without one of `required` the answer is 1802."""

    handler: Handler
    kind: str = "CollectionNameReq"
    required: tuple[str, ...] = ("collectionName",)
    method: str = "POST"
    """A route of GET reads the query of its address as its body."""


def _refusal(error: MilvineError, _context: RequestContext) -> MilvineError:
    if isinstance(error, RejectedByLimiter):
        return RestRejected(error)
    return RestPermissionDenied(error) if isinstance(error, PermissionDenied) else error


@record
class Version:
    """A version of REST: its routes, and what is the same for all of them.

    `label` precedes a route's path in metrics and in the audit log. `success`: the code of an answer without an error.
    `refusal`: the form of an error of the service.
    """

    prefix: str
    routes: Mapping[str, Route]
    label: str = ""
    success: int = 0
    text_of_no_body: str = "the request body should be nil, however {} is valid"
    require: Callable[[Body, Sequence[str]], None] = Body.require
    refusal: Callable[[MilvineError, RequestContext], MilvineError] = _refusal
