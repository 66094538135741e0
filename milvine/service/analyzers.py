"""The checks of the analyzers of a schema."""

from __future__ import annotations

from milvine.analysis.registry import analyzer_of
from milvine.errors import AnalyzerInvalid, ParameterInvalid
from milvine.model.analyzer_params import check_analyzer_params
from milvine.model.schema import CollectionSchema


def check_analyzers(schema: CollectionSchema, collection: str) -> None:
    """Raises ParameterInvalid, which names the field, unless every analyzer of the schema can be built."""
    for one in check_analyzer_params(schema, collection):
        try:
            analyzer_of(one.params)
        except AnalyzerInvalid as error:
            which = f", name: {one.name}" if one.name else ""
            raise ParameterInvalid(
                f"validate analyzer failed for field: {one.field_name}{which}, error: {error.message}"
            ) from error
