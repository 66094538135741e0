"""The parameters of a field that say how its texts are divided into terms, with Milvus's messages.

Milvus reads them only of texts with `enable_analyzer`; of other fields they are kept and ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from milvine.errors import ParameterInvalid
from milvine.model import json_text
from milvine.model.file_resources import names_in
from milvine.model.functions import FunctionType
from milvine.model.properties import (
    ANALYZER_PARAMS,
    ENABLE_ANALYZER,
    ENABLE_MATCH,
    MULTI_ANALYZER_PARAMS,
    parse_bool,
)
from milvine.model.records import record
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import DataType

DEFAULT_ANALYZER = "default"
"""The name of the analyzer of rows whose value names none."""


def enables_analyzer(field: FieldSchema) -> bool:
    """Whether the texts of a field are divided into terms."""
    return _is_on(field, ENABLE_ANALYZER)


def enables_match(field: FieldSchema) -> bool:
    """Whether filters may match terms of a field's texts."""
    return _is_on(field, ENABLE_MATCH)


def _is_on(field: FieldSchema, key: str) -> bool:
    return field.data_type is DataType.VARCHAR and parse_bool(field.properties.get(key, "")) is True


def multi_analyzer_params(field: FieldSchema) -> Mapping[str, Any] | None:
    """The parameters of a field with an analyzer for each language; None for another field."""
    text = field.properties.get(MULTI_ANALYZER_PARAMS)
    if text is None or not enables_analyzer(field):
        return None
    try:
        found = json_text.loads(text)
    except json_text.NotJson as error:
        raise ParameterInvalid(f"failed to unmarshal {MULTI_ANALYZER_PARAMS} {text}: {error}") from error
    if not isinstance(found, dict):
        raise ParameterInvalid(f"failed to unmarshal {MULTI_ANALYZER_PARAMS} {text}: it is no JSON object")
    return found


def naming_fields(field: FieldSchema) -> frozenset[str]:
    """The field, if there is one, whose values name the analyzers of this field's texts."""
    name = (multi_analyzer_params(field) or {}).get("by_field")
    return frozenset({name} if isinstance(name, str) else ())


def needs_analyzer(schema: CollectionSchema, field: FieldSchema) -> bool:
    """Whether a field has `enable_match` or feeds a BM25 function."""
    return enables_match(field) or feeds(schema, field, FunctionType.BM25)


def feeds(schema: CollectionSchema, field: FieldSchema, *types: FunctionType) -> bool:
    """Whether a field is an input of a function of one of these types."""
    return any(f.function_type in types and field.name in f.inputs for f in schema.functions)


def file_resources_of(schema: CollectionSchema) -> frozenset[str]:
    """The names of the file resources that the analyzers of a schema use."""
    found: set[str] = set()
    for field in schema.fields:
        if not (enables_analyzer(field) or feeds(schema, field, FunctionType.MIN_HASH)):
            continue
        for key in (ANALYZER_PARAMS, MULTI_ANALYZER_PARAMS):
            try:
                found.update(names_in(json_text.loads(field.properties.get(key, "{}"))))
            except json_text.NotJson:
                continue
    return frozenset(found)


@record
class AnalyzerParams:
    """The parameters of one analyzer of a field. `name`: of one of several, or empty."""

    field_name: str
    name: str
    params: str


def check_analyzer_params(schema: CollectionSchema, collection: str) -> list[AnalyzerParams]:
    """Checks the parameters of all fields and returns those of each analyzer, which are to be checked by building it.
    Raises ParameterInvalid."""
    found: list[AnalyzerParams] = []
    for field in schema.fields:
        if needs_analyzer(schema, field) and not enables_analyzer(field):
            raise ParameterInvalid(
                f"field {field.name} which has enable_match or is input of BM25 function must also enable_analyzer"
            )
        if not enables_analyzer(field):
            if ANALYZER_PARAMS in field.properties and feeds(schema, field, FunctionType.MIN_HASH):
                found.append(AnalyzerParams(field.name, "", field.properties[ANALYZER_PARAMS]))
            continue
        several = multi_analyzer_params(field)
        if several is not None:
            found += _check_several(schema, collection, field, several)
        elif ANALYZER_PARAMS in field.properties:
            found.append(AnalyzerParams(field.name, "", field.properties[ANALYZER_PARAMS]))
    return found


def _check_several(
    schema: CollectionSchema, collection: str, field: FieldSchema, params: Mapping[str, Any]
) -> list[AnalyzerParams]:
    if enables_match(field):
        raise ParameterInvalid(f"multi analyzer now only support for bm25, but now field {field.name} enable match")
    if ANALYZER_PARAMS in field.properties:
        raise ParameterInvalid(f"field {field.name} analyzer params should be none if has multi analyzer params")
    if "by_field" not in params:
        raise ParameterInvalid("multi analyzer params now must set by_field to specify with field decide analyzer")
    name = params["by_field"]
    if not isinstance(name, str):
        raise ParameterInvalid(f"multi analyzer params by_field must be string but now: {_json(name)}")
    if name not in schema.by_name:
        raise ParameterInvalid(f'multi analyzer dependent field "{name}" not exist in collection {collection}')
    if schema.by_name[name].data_type is not DataType.VARCHAR:
        raise ParameterInvalid(
            f"multi analyzer params now only support by string field, but field {name} is not string"
        )
    alias = params.get("alias", {})
    if not (isinstance(alias, dict) and all(isinstance(value, str) for value in alias.values())):
        raise ParameterInvalid(f"multi analyzer alias must be string map but now: {_json(alias)}")
    analyzers = params.get("analyzers")
    if "analyzers" not in params:
        raise ParameterInvalid("multi analyzer params must set analyzers ")
    if not isinstance(analyzers, dict):
        raise ParameterInvalid(f"unmarshal analyzers failed: {_json(analyzers)} is no JSON object")
    if DEFAULT_ANALYZER not in analyzers:
        raise ParameterInvalid("multi analyzer must set default analyzer for all unknown value")
    return [AnalyzerParams(field.name, name, _json(value)) for name, value in analyzers.items()]


def _json(value: object) -> str:
    return json_text.dumps(value).decode()
