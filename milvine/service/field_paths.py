"""Paths in JSON fields, as requests name them."""

from __future__ import annotations

from milvine.errors import ParameterInvalid, UnexpectedError, excerpt
from milvine.expr import FilterError, parse_identifier
from milvine.model.json_paths import JsonPath
from milvine.model.schema import CollectionSchema, FieldSchema


def field_path(schema: CollectionSchema, field: FieldSchema, text: str) -> JsonPath:
    """The path of `a["b"][0]` in a JSON field. Raises UnexpectedError if the text is not such a path."""
    try:
        target = parse_identifier(text, schema)
    except FilterError as error:
        raise UnexpectedError(f"cannot parse identifier: {excerpt(text)}: {excerpt(error.message)}") from error
    if target is None:
        raise UnexpectedError(f"cannot parse identifier: {excerpt(text)}")
    if target.field_id != field.field_id:
        raise ParameterInvalid("fieldID not match with field name")
    return target.path
