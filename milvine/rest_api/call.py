"""The argument of handlers, and routes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from milvine.model.collections import Collection
from milvine.model.schema import CollectionSchema
from milvine.rest_api.body import Body
from milvine.service import collections
from milvine.service.context import Engine, RequestContext


@dataclass(frozen=True, slots=True)
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


Handler = Callable[[Call], dict[str, Any]]
"""Answers the envelope without its code."""


@dataclass(frozen=True, slots=True)
class Route:
    """`kind` is Milvus's name for the body; without one of `required` the answer is 1802."""

    handler: Handler
    kind: str = "CollectionNameReq"
    required: tuple[str, ...] = ("collectionName",)
