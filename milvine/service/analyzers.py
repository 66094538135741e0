"""Checks of the analyzers that a schema's fields name."""

from __future__ import annotations

from milvine.model.analyzer_params import check_analyzer_params
from milvine.model.schema import CollectionSchema


def check_analyzers(schema: CollectionSchema, collection: str) -> None:
    """Raises ParameterInvalid unless every analyzer of the schema can be built."""
    check_analyzer_params(schema, collection)
