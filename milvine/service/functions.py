"""Who may write the outputs of functions."""

from __future__ import annotations

from collections.abc import Mapping

from milvine.errors import ParameterInvalid
from milvine.model.functions import FunctionType
from milvine.model.properties import INSERTED_EMBEDDINGS_PROPERTY, allows_inserted_embeddings
from milvine.model.schema import FieldSchema


def check_no_output(field: FieldSchema, properties: Mapping[str, str]) -> None:
    """Raises ParameterInvalid for a field whose values only its function makes. `properties`: of the collection."""
    if field.made_by is FunctionType.BM25:
        raise ParameterInvalid("attempt to insert bm25 function output field")
    if field.is_made_here or (field.made_by is not None and not allows_inserted_embeddings(properties)):
        raise ParameterInvalid(
            f"Insert data has function output field, but collection's property `{INSERTED_EMBEDDINGS_PROPERTY}` "
            "is not enable"
        )
