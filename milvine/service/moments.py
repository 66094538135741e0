"""TIMESTAMPTZ at the door: texts of requests become microseconds, and microseconds become texts in answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from milvine.errors import ParameterInvalid
from milvine.model.collections import Collection
from milvine.model.columns import Column
from milvine.model.moments import PARTS, UTC, BadMoment, moment_parts, moment_texts, parse_moment, parse_moments
from milvine.model.properties import TIMEZONE_PROPERTY
from milvine.model.records import record
from milvine.model.requests import InsertRequest, OutputField, ReadResult
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import DataType

_SEPARATORS = str.maketrans(",", " ")


def zone_of(properties: Mapping[str, str]) -> str:
    """Of a collection's texts that have no offset, and of those in its answers."""
    return properties.get(TIMEZONE_PROPERTY) or UTC


def with_moments(collection: Collection, request: InsertRequest) -> InsertRequest:
    """The request with microseconds in place of texts. Raises ParameterInvalid."""
    fields = [f for f in collection.schema.fields if f.data_type is DataType.TIMESTAMPTZ and f.name in request.columns]
    if not fields:
        return request
    zone = zone_of(collection.properties)
    return replace(
        request, columns={**request.columns, **{f.name: moment_column(request.columns[f.name], zone) for f in fields}}
    )


def moment_column(column: Column, zone: str) -> Column:
    """A column of texts as one of microseconds. Raises ParameterInvalid."""
    if not isinstance(column.values, pa.StringArray):
        if column.validity is not None and not column.validity.any():
            return Column(DataType.TIMESTAMPTZ, np.zeros(len(column.validity), np.int64), column.validity)
        raise ParameterInvalid("timestamptz field data must be a string array")
    texts, validity = column.values, column.validity
    given = texts if validity is None or len(validity) != len(texts) else texts.filter(pa.array(validity))
    try:
        parsed = parse_moments(given, zone)
    except BadMoment as error:
        raise ParameterInvalid(
            f"got invalid timestamptz string '{given[error.row]}': invalid timezone name; must be a valid IANA Time "
            "Zone ID (e.g., 'Asia/Shanghai' or 'UTC')"
        ) from error
    if len(given) == len(texts):
        return Column(DataType.TIMESTAMPTZ, parsed, validity)
    values = np.zeros(len(texts), np.int64)
    values[validity] = parsed
    return Column(DataType.TIMESTAMPTZ, values, validity)


def with_moment_defaults(schema: CollectionSchema, properties: Mapping[str, str]) -> CollectionSchema:
    """The schema with microseconds as the default values of its TIMESTAMPTZ fields. Raises ParameterInvalid."""
    if all(f.data_type is not DataType.TIMESTAMPTZ for f in schema.fields):
        return schema
    zone = zone_of(properties)
    return replace(schema, fields=tuple(with_moment_default(f, zone) for f in schema.fields))


def with_moment_default(field: FieldSchema, zone: str) -> FieldSchema:
    if field.data_type is not DataType.TIMESTAMPTZ or not isinstance(field.default_value, str):
        return field
    try:
        return replace(field, default_value=parse_moment(field.default_value, zone))
    except BadMoment as error:
        raise ParameterInvalid(str(error)) from error


def with_shown_defaults(collection: Collection) -> Collection:
    """The collection with texts as the default values of TIMESTAMPTZ fields, as clients give them."""
    schema, zone = collection.schema, zone_of(collection.properties)
    if not any(f.data_type is DataType.TIMESTAMPTZ and f.default_value is not None for f in schema.fields):
        return collection
    return replace(
        collection, schema=replace(schema, fields=tuple(_with_shown_default(f, zone) for f in schema.fields))
    )


def _with_shown_default(field: FieldSchema, zone: str) -> FieldSchema:
    if field.data_type is not DataType.TIMESTAMPTZ or field.default_value is None:
        return field
    text = moment_texts(np.array([field.default_value], np.int64), zone)[0].as_py()
    return replace(field, default_value=text)


@record
class MomentForm:
    """How an answer gives moments: as texts in a zone, or as numbers for `parts` of them."""

    zone: str
    parts: tuple[str, ...]

    def shown(self, result: ReadResult) -> ReadResult:
        """The answer with moments in this form."""
        ranking = result.ranking
        fields = [*result.fields, *(() if ranking is None else ranking.groups)]
        if all(f.field.data_type is not DataType.TIMESTAMPTZ for f in fields):
            return result
        if ranking is not None:
            ranking = replace(ranking, groups=tuple(map(self._field, ranking.groups)))
        return replace(result, fields=tuple(map(self._field, result.fields)), ranking=ranking)

    def _field(self, output: OutputField) -> OutputField:
        field, column = output.field, output.column
        if field.data_type is not DataType.TIMESTAMPTZ:
            return output
        if not self.parts:
            return OutputField(field, Column(field.data_type, moment_texts(column.values, self.zone), column.validity))
        as_list = replace(field, data_type=DataType.ARRAY, element_type=DataType.INT64, max_capacity=len(self.parts))
        lists = moment_parts(column.values, self.zone, self.parts)
        return OutputField(as_list, Column(DataType.ARRAY, lists, column.validity))


def moment_form(collection: Collection, params: Mapping[str, Any]) -> MomentForm:
    """By `timezone`, already checked, and `time_fields` of a read's parameters. Raises ParameterInvalid."""
    parts = tuple(str(params.get("time_fields", "")).translate(_SEPARATORS).lower().split())
    wrong = next((part for part in parts if part not in PARTS), None)
    if wrong is not None:
        reason = f"unsupported field for extraction: {wrong}, fields should be seprated by ',' or ' '"
        raise ParameterInvalid(reason)
    return MomentForm(str(params.get(TIMEZONE_PROPERTY) or zone_of(collection.properties)), parts)
