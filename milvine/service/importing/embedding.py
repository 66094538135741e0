"""Calls embedding models for the rows of an import, in the child process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

from milvine.config import Settings
from milvine.model.columns import ColumnBatch, concat_batches
from milvine.model_services.access import Access
from milvine.model_services.client import ModelClient
from milvine.service.context import RequestContext
from milvine.service.embeddings import most_texts, with_embeddings
from milvine.service.importing.orders import ReadOrder

_SECONDS = 3600.0


@dataclass(frozen=True)
class _Models:
    """What embeddings need of the engine."""

    settings: Settings
    allowed_hosts: str

    @cached_property
    def model_client(self) -> ModelClient:
        return ModelClient(self.allowed_hosts, 1)

    @cached_property
    def embedders(self) -> Access:
        settings = self.settings
        return Access(settings.credentials, settings.embedding_providers, settings.model_request_seconds)


def embedded(order: ReadOrder, batch: ColumnBatch) -> ColumnBatch:
    """The rows with the vectors that models make, which take so many texts at a time."""
    schema = order.collection.schema
    models = _Models(order.settings, order.allowed_hosts)
    step = most_texts(models, schema) or batch.row_count
    pieces = []
    for start in range(0, batch.row_count, step):
        some = batch.slice(start, min(start + step, batch.row_count))
        context = RequestContext(deadline=time.monotonic() + _SECONDS)
        pieces.append(ColumnBatch(some.row_count, with_embeddings(models, context, schema, some.columns)))
    return concat_batches(pieces)
