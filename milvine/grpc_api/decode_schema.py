"""Protobuf -> schemas: collections, fields and functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError

from milvine.errors import ParameterInvalid
from milvine.grpc_api.key_values import pairs
from milvine.grpc_api.proto import schema_pb2
from milvine.grpc_api.unserved import refuse_unserved_fields
from milvine.model import known_keys
from milvine.model.functions import FunctionSchema, FunctionType
from milvine.model.known_keys import refuse_unserved, unsupported
from milvine.model.properties import FIELD_PROPERTIES
from milvine.model.requests import CreateCollectionRequest, NewFunction
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.schema_rules import NO_STRING
from milvine.model.types import ConsistencyLevel, DataType

_DEFAULTS = {
    DataType.BOOL: "bool_data",
    DataType.INT8: "int_data",
    DataType.INT16: "int_data",
    DataType.INT32: "int_data",
    DataType.INT64: "long_data",
    DataType.FLOAT: "float_data",
    DataType.DOUBLE: "double_data",
    DataType.VARCHAR: "string_data",
    DataType.TIMESTAMPTZ: "string_data",
}
_DEFAULT_NAMES = {
    "bool_data": "DataType_Bool",
    "int_data": "DataType_Int",
    "long_data": "DataType_Int64",
    "float_data": "DataType_Float",
    "double_data": "DataType_Double",
    "string_data": "DataType_VarChar",
    "bytes_data": "DataType_JSON",
    "timestamptz_data": "DataType_Timestamptz",
}


def _type_name(number: int) -> str:
    name: str = schema_pb2.DataType.Name(number) if number in schema_pb2.DataType.values() else str(number)
    return name


def _data_type(field: Any) -> DataType:
    try:
        return DataType(field.data_type)
    except ValueError:
        name = _type_name(field.data_type)
        if name == "String":
            raise ParameterInvalid(NO_STRING) from None
        if name == "None":
            raise ParameterInvalid("data type None is not valid") from None
        raise ParameterInvalid(
            f"data type {name} of field {field.name} is not supported by this version of Milvine"
        ) from None


def _element_type(field: Any) -> DataType | None:
    try:
        return DataType(field.element_type) if field.element_type else None
    except ValueError:
        if _type_name(field.element_type) == "String":
            raise ParameterInvalid(NO_STRING) from None
        raise ParameterInvalid(f"element type {_type_name(field.element_type)} is not supported") from None


def _default_value(field: Any, data_type: DataType) -> Any:
    """The value as a Python object, None if there is none; its kind is checked if the type allows defaults."""
    kind = field.default_value.WhichOneof("data") if field.HasField("default_value") else None
    if kind is None:
        return None
    if _DEFAULTS.get(data_type, kind) != kind and not field.is_primary_key:
        raise ParameterInvalid(
            f"type ({data_type.milvus_name}) of field ({field.name}) is not equal to "
            f"the type({_DEFAULT_NAMES.get(kind, kind)}) of default_value"
        )
    return getattr(field.default_value, kind)


def _int_param(field: Any, params: Mapping[str, str], name: str) -> int | None:
    text = params.get(name)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise ParameterInvalid(f"the value for {name} of field {field.name} must be an integer") from None


def _field(field: Any) -> FieldSchema:
    of = f", field name = {field.name}"
    refuse_unserved_fields(field, of)
    params = pairs(field.type_params)
    refuse_unserved(known_keys.FIELD, params, of)
    data_type = _data_type(field)
    element_type = _element_type(field) if data_type is DataType.ARRAY else None
    return FieldSchema(
        0,
        field.name,
        data_type,
        field.description,
        field.is_primary_key,
        field.autoID,
        nullable=field.nullable,
        dim=_int_param(field, params, "dim") if data_type.is_vector else None,
        max_length=_int_param(field, params, "max_length") if DataType.VARCHAR in (data_type, element_type) else None,
        element_type=element_type,
        max_capacity=_int_param(field, params, "max_capacity") if data_type is DataType.ARRAY else None,
        default_value=_default_value(field, data_type),
        properties={k: v for k, v in params.items() if k in FIELD_PROPERTIES},
        is_partition_key=field.is_partition_key,
    )


def added_field(request: Any) -> FieldSchema:
    """The field of an AddCollectionField."""
    try:
        field = schema_pb2.FieldSchema.FromString(request.schema)
    except DecodeError as error:
        raise ParameterInvalid(f"failed to unmarshal field schema: {error}") from error
    return _added_field(field)


def _added_field(field: Any) -> FieldSchema:
    if field.is_partition_key:
        raise ParameterInvalid(f"not support to add partition key field, field name  = {field.name}")
    return _field(field)


def schema_addition(added: Any) -> FieldSchema | NewFunction:
    """What an AlterCollectionSchema adds. As in Milvus, the name and the parameters of an index are for the field of a
    function only."""
    if len(added.func_schema) > 1:
        raise ParameterInvalid("For now, at most one function schema is supported")
    if len(added.field_infos) > 1:
        raise ParameterInvalid("For now, only one field info is supported")
    if not added.field_infos and not added.func_schema:
        raise ParameterInvalid("fieldInfos and function schema are both empty")
    if added.field_infos and not added.field_infos[0].HasField("field_schema"):
        raise ParameterInvalid("fieldSchema is nil in fieldInfos")
    if added.func_schema:
        if not added.field_infos:
            raise ParameterInvalid(
                "adding a function over existing fields is not supported; "
                "use add_function_field to add the function together with its new output field"
            )
        info = added.field_infos[0]
        output = _added_field(info.field_schema)
        return NewFunction(function(added.func_schema[0]), output, info.index_name, pairs(info.extra_params))
    if added.do_physical_backfill:
        raise ParameterInvalid(unsupported("a physical backfill"))
    return _added_field(added.field_infos[0].field_schema)


def create_collection(request: Any) -> CreateCollectionRequest:
    try:
        schema = schema_pb2.CollectionSchema.FromString(request.schema)
    except DecodeError as error:
        raise ParameterInvalid(f"failed to unmarshal the collection schema: {error}") from error
    refuse_unserved_fields(schema)
    fields = tuple(_field(f) for f in schema.fields if not f.is_dynamic)
    functions = tuple(function(f) for f in schema.functions)
    return CreateCollectionRequest(
        request.collection_name or schema.name,
        CollectionSchema(fields, schema.description, schema.enable_dynamic_field, functions=functions),
        request.shards_num,
        ConsistencyLevel(request.consistency_level),
        pairs(request.properties),
        request.num_partitions,
    )


def function(message: Any) -> FunctionSchema:
    try:
        function_type = FunctionType(message.type)
    except ValueError:
        function_type = FunctionType.UNKNOWN
    return FunctionSchema(
        0,
        message.name,
        function_type,
        tuple(message.input_field_names),
        tuple(message.output_field_names),
        message.description,
        pairs(message.params),
    )
