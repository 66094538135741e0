"""The checks of the analyzers of a schema."""

from __future__ import annotations

from milvine.analysis.registry import analyzer_of
from milvine.model.analyzer_params import check_analyzer_params
from milvine.model.schema import CollectionSchema


def check_analyzers(schema: CollectionSchema, collection: str) -> None:
    """Raises InputError unless every analyzer of the schema can be built."""
    for params in check_analyzer_params(schema, collection):
        analyzer_of(params)
