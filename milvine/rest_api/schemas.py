"""Bodies that create collections and indexes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from milvine.errors import ParameterInvalid, RestMissingParameters, UnexpectedError
from milvine.index.registry import auto_type
from milvine.model import json_text
from milvine.model.functions import FunctionSchema, FunctionType
from milvine.model.json_text import go_type, plain_text
from milvine.model.known_keys import FIELD, refuse_unserved
from milvine.model.properties import FIELD_PROPERTIES
from milvine.model.records import record
from milvine.model.requests import CreateCollectionRequest, NewFunction
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.schema_rules import NO_STRING
from milvine.model.types import ConsistencyLevel, DataType, MetricType
from milvine.model.vectors import kind_of
from milvine.rest_api.body import Body, parse_bool

LEVELS = {level.milvus_name: level for level in ConsistencyLevel}
LEVEL_NAMES = ", ".join(LEVELS)
LEVEL_RULE = f"consistencyLevel can only be [{LEVEL_NAMES}], default: Bounded"
UNSUPPORTED = "is not supported by this version of Milvine"
_FUNCTION_TYPES = {t.milvus_name: t for t in FunctionType}
_DATA_TYPES = {t.milvus_name: t for t in DataType}
_OTHER_DATA_TYPES = frozenset(
    {
        "ArrayOfStruct",
        "ArrayOfVector",
        "Geometry",
        "Struct",
        "Text",
    }
)
_NUMBER = (int, float)
_DEFAULTS: dict[DataType, tuple[tuple[type, ...], str]] = {
    DataType.BOOL: ((bool,), "bool"),
    DataType.INT8: (_NUMBER, "int"),
    DataType.INT16: (_NUMBER, "int"),
    DataType.INT32: (_NUMBER, "int"),
    DataType.INT64: (_NUMBER, "long"),
    DataType.FLOAT: (_NUMBER, "float"),
    DataType.DOUBLE: (_NUMBER, "float"),
    DataType.VARCHAR: ((str,), "string"),
    DataType.TIMESTAMPTZ: ((str,), "string"),
}
"""The Python types of JSON values for a default, and Milvus's word for the kind."""
_QUICK_VECTOR_TYPES = "FloatVector, BinaryVector, Float16Vector, BFloat16Vector, SparseFloatVector"
_PROPERTY_NAMES = {"ttl.seconds": "collection.ttl.seconds"}
_PROPERTIES_IN_PARAMS = {
    "ttlSeconds": "collection.ttl.seconds",
    "partitionKeyIsolation": "partitionkey.isolation",
    "mmap.enabled": "mmap.enabled",
    "warmup.scalarField": "warmup.scalarField",
    "warmup.scalarIndex": "warmup.scalarIndex",
    "warmup.vectorField": "warmup.vectorField",
    "warmup.vectorIndex": "warmup.vectorIndex",
}


@record
class NewIndex:
    field_name: str
    index_name: str
    params: Mapping[str, str]


def index(params: Body) -> NewIndex:
    """One element of `indexParams`; its nested `params` become JSON text, as the service expects them."""
    nested = params.mapping("params")
    index_type = params.text("indexType") or plain_text(nested.get("index_type", ""))
    given = {
        "index_type": index_type,
        "metric_type": params.text("metricType"),
        "params": json_text.dumps(nested).decode() if nested else "",
    }
    return NewIndex(params.text("fieldName"), params.text("indexName"), {k: v for k, v in given.items() if v})


def _int_param(field_name: str, params: Mapping[str, Any], name: str) -> int | None:
    if name not in params:
        return None
    try:
        return int(plain_text(params[name]))
    except ValueError:
        raise ParameterInvalid(f"the value for {name} of field {field_name} must be an integer") from None


def _data_type(field_name: str, name: str) -> DataType:
    found = _DATA_TYPES.get(name)
    if found is not None:
        return found
    if name == "String":
        raise ParameterInvalid(NO_STRING)
    if name in _OTHER_DATA_TYPES:
        raise ParameterInvalid(f"data type {name} of field {field_name} {UNSUPPORTED}")
    raise ParameterInvalid(f"data type {name} is invalid(case sensitive)")


def added_field(body: Body) -> FieldSchema:
    """The field of fields/add."""
    field = body.inner("schema")
    field.require(("fieldName", "dataType"))
    if field.boolean("isPartitionKey"):
        raise ParameterInvalid(f"not support to add partition key field, field name  = {field.text('fieldName')}")
    return _field(field, auto_id=False)


_ONE_INDEX = "indexParams"
"""An object in add_function_field, a list in other bodies."""


def new_function(body: Body) -> NewFunction:
    """The function, output field and index of add_function_field."""
    output, wanted = body.inner("outputField"), body.inner(_ONE_INDEX)
    output.require(("fieldName", "dataType"))
    new = NewIndex("", "", {})
    if body.mapping(_ONE_INDEX):
        new, name = index(wanted), output.text("fieldName")
        if new.field_name != name:
            raise ParameterInvalid(
                f'indexParams.fieldName "{new.field_name}" must match outputField.fieldName "{name}"'
            )
    return NewFunction(only_function(body.inner("function")), _field(output, auto_id=False), new.index_name, new.params)


def _field(field: Body, auto_id: bool) -> FieldSchema:
    name = field.text("fieldName")
    data_type = _data_type(name, field.text("dataType"))
    of = f", field name = {name}"
    field.refuse_unserved("CollectionReq.schema.fields", of)
    element_type = _element_type(name, field.text("elementDataType")) if data_type is DataType.ARRAY else None
    params = {**field.mapping("elementTypeParams"), **field.mapping("typeParams")}
    refuse_unserved(FIELD, params, of)
    is_primary = field.boolean("isPrimary")
    return FieldSchema(
        0,
        name,
        data_type,
        field.text("description"),
        is_primary,
        auto_id and is_primary,
        nullable=field.boolean("nullable"),
        dim=_int_param(name, params, "dim") if data_type.is_vector else None,
        max_length=_int_param(name, params, "max_length") if DataType.VARCHAR in (data_type, element_type) else None,
        element_type=element_type,
        max_capacity=_int_param(name, params, "max_capacity") if data_type is DataType.ARRAY else None,
        default_value=_default_value(data_type, field.value("defaultValue")),
        properties={k: plain_text(v) for k, v in params.items() if k in FIELD_PROPERTIES},
        is_partition_key=field.boolean("isPartitionKey"),
    )


def _element_type(field_name: str, name: str) -> DataType:
    found = _DATA_TYPES.get(name)
    if found is not None:
        return found
    if name == "String":
        raise ParameterInvalid(NO_STRING)
    if name in _OTHER_DATA_TYPES:
        raise ParameterInvalid(f"element type {name} of field {field_name} {UNSUPPORTED}")
    raise ParameterInvalid(f"element data type {name} is invalid(case sensitive)")


def _default_value(data_type: DataType, value: Any) -> bool | int | float | str | None:
    """A JSON value in the field's type; for an integer field a fraction is cut off, as in Milvus."""
    if value is None:
        return None
    kinds, what = _DEFAULTS.get(data_type, ((), ""))
    if not what:
        raise ParameterInvalid(
            f"convert defaultValue fail, err: Unexpected default value type: {data_type.milvus_name}"
        )
    if type(value) not in kinds:
        shown = f'cannot use "{plain_text(value)}"(type: {go_type(value)}) as {what} default value'
        raise ParameterInvalid(f"convert defaultValue fail, err: {shown}")
    if data_type.is_integer:
        return int(value)
    if data_type is DataType.FLOAT:
        return float(np.float32(value))
    return float(value) if data_type is DataType.DOUBLE else value


def _custom_schema(body: Body) -> CollectionSchema:
    schema = body.inner("schema")
    schema.refuse_unserved("CollectionReq.schema")
    auto_id = schema.boolean("autoID")
    fields = tuple(_field(f, auto_id) for f in schema.inners("fields"))
    functions = tuple(function(f) for f in schema.inners("functions"))
    dynamic = schema.boolean("enableDynamicField")
    return CollectionSchema(fields, body.text("description"), dynamic, functions=functions)


def function_type(body: Body) -> FunctionType:
    """The type of a function's JSON object. Raises ParameterInvalid."""
    name = body.text("type")
    if name not in _FUNCTION_TYPES:
        raise ParameterInvalid(f"Unsupported function type: {name}")
    return _FUNCTION_TYPES[name]


def only_function(body: Body) -> FunctionSchema:
    """A function that is no element of a list; Milvus requires more of these."""
    body.require(("name", "type", "inputFieldNames", "outputFieldNames"))
    return function(body)


def function(body: Body) -> FunctionSchema:
    return FunctionSchema(
        0,
        body.text("name"),
        function_type(body),
        body.texts("inputFieldNames"),
        body.texts("outputFieldNames"),
        body.text("description"),
        {key: plain_text(value) for key, value in body.mapping("params").items()},
    )


def _quick_metric(body: Body, data_type: DataType) -> str:
    kind = kind_of(data_type)
    name = body.text("metricType") or kind.default_metric.value
    if name not in kind.metrics or name not in auto_type(data_type, MetricType(name))[0].metrics:
        raise kind.wrong_metric(name)
    return name


def _quick_key(body: Body, params: Mapping[str, Any]) -> FieldSchema:
    name = body.text("primaryFieldName") or "id"
    auto_id = body.boolean("autoID")
    id_type = body.text("idType")
    if id_type in ("VarChar", "Varchar"):
        max_length = _int_param(name, {"max_length": params.get("max_length")}, "max_length")
        return FieldSchema(0, name, DataType.VARCHAR, is_primary=True, auto_id=auto_id, max_length=max_length)
    if id_type in ("", "Int64", "int64"):
        return FieldSchema(0, name, DataType.INT64, is_primary=True, auto_id=auto_id)
    raise ParameterInvalid(
        "idType can only be [Int64, VarChar], default: Int64", expected="Int64, Varchar", actual=id_type
    )


def _quick_schema(body: Body) -> CollectionSchema:
    vector_type = body.text("vectorFieldType") or "FloatVector"
    if vector_type not in _QUICK_VECTOR_TYPES.split(", "):
        raise ParameterInvalid(
            f"vectorFieldType can only be [{_QUICK_VECTOR_TYPES}], default: FloatVector",
            expected=_QUICK_VECTOR_TYPES,
            actual=vector_type,
        )
    dim = body.integer("dimension")
    vector_name = body.text("vectorFieldName") or "vector"
    data_type = _data_type(vector_name, vector_type)
    has_dim = kind_of(data_type).has_dim
    if dim and not has_dim:
        raise ParameterInvalid(f"dimension should not be specified for {vector_type} quick create")
    if not dim and has_dim:
        raise ParameterInvalid(
            "dimension is required for quickly create collection(default metric type: COSINE)",
            expected="collectionName & dimension",
            actual="collectionName",
        )
    params = body.mapping("params")
    key = _quick_key(body, params)
    vector = FieldSchema(0, vector_name, data_type, dim=dim if has_dim else None)
    try:
        dynamic = parse_bool(plain_text(params.get("enableDynamicField", True)))
    except ValueError as error:
        raise UnexpectedError(f"parse enableDynamicField fail, err:{error}") from error
    return CollectionSchema((key, vector), body.text("description"), dynamic)


def _new_level(body: Body, params: Mapping[str, Any]) -> ConsistencyLevel:
    top, inner = body.text("consistencyLevel"), params.get("consistencyLevel")
    if top and inner is not None and top != inner:
        raise ParameterInvalid(
            "top-level consistencyLevel conflicts with params.consistencyLevel",
            expected="same consistencyLevel",
            actual=inner,
        )
    name = top or plain_text(inner or "")
    if name and name not in LEVELS:
        raise ParameterInvalid(LEVEL_RULE, expected=LEVEL_NAMES, actual=name)
    return LEVELS.get(name, ConsistencyLevel.BOUNDED)


def _properties(body: Body, params: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    given = [(_PROPERTY_NAMES.get(k, k), v) for k, v in body.mapping("properties").items()]
    given += [(name, params[k]) for k, name in _PROPERTIES_IN_PARAMS.items() if k in params]
    for name, value in given:
        if name in found and name == "collection.ttl.seconds":
            raise ParameterInvalid("collection TTL is specified multiple times")
        found[name] = plain_text(value)
    return found


def create_collection(body: Body) -> tuple[CreateCollectionRequest, list[NewIndex]]:
    """The collection, and the indexes to create before it is loaded; without indexes it is not loaded."""
    name, params = body.text("collectionName"), body.mapping("params")
    if body.inner("schema").array("fields"):
        schema = _custom_schema(body)
        new_indexes = [index(p) for p in body.inners("indexParams")]
        names = {f.name for f in schema.fields}
        for new in new_indexes:
            if new.field_name not in names:
                raise RestMissingParameters(f"`{new.field_name}` hasn't defined in schema")
    else:
        schema = _quick_schema(body)
        (vector,) = schema.vector_fields
        new_indexes = [NewIndex(vector.name, vector.name, {"metric_type": _quick_metric(body, vector.data_type)})]
    shards = plain_text(params.get("shardsNum", 1))
    request = CreateCollectionRequest(
        name,
        schema,
        int(shards) if shards.isdecimal() and len(shards) < 10 else 1,
        _new_level(body, params),
        _properties(body, params),
        _num_partitions(schema, params),
    )
    return request, new_indexes


def _num_partitions(schema: CollectionSchema, params: Mapping[str, Any]) -> int:
    """As Milvus reads it: only with a partition key, and 0 (the default) if it is not a positive number."""
    text = plain_text(params.get("partitionsNum", ""))
    return int(text) if schema.partition_key is not None and text.isdecimal() and len(text) < 10 else 0
