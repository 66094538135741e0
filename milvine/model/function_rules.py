"""The checks of the functions of a new schema, with Milvus's messages (internal/util/function/validator)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from milvine.errors import ParameterInvalid, ParameterMissing
from milvine.model.analyzer_params import enables_analyzer
from milvine.model.functions import FunctionSchema, FunctionType
from milvine.model.minhash_params import minhash_params
from milvine.model.records import record
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import DataType


def check_functions(schema: CollectionSchema) -> None:
    """Checks all functions of a schema as the user sent it. Raises ParameterInvalid or ParameterMissing."""
    names: set[str] = set()
    outputs: set[str] = set()
    for function in schema.functions:
        _check_basics(function)
        if function.name in names:
            raise ParameterInvalid(f"duplicate function name: {function.name}")
        names.add(function.name)
        _CHECKS[function.function_type].inputs(function, _fields(schema, function.inputs, "input"))
        _check_outputs(schema, function, outputs)
    for function in schema.functions:
        for name in function.inputs:
            if name in outputs:
                raise ParameterInvalid(
                    f"function {function.name} input field {name} is the output of another function; "
                    "function cascade is not supported"
                )
    for function in schema.functions:
        if function.function_type is FunctionType.MIN_HASH:
            minhash_params(function, schema.by_name[function.outputs[0]])


def check_added_function(schema: CollectionSchema, function: FunctionSchema, output: FieldSchema) -> None:
    """Checks a function that is to be added with its output, before `check_functions` of the schema with both."""
    if not function.function_type.runs_here or function.function_type not in _CHECKS:
        raise ParameterInvalid("For now, only BM25 and MinHash functions are supported in add_function_field interface")
    if len(function.inputs) != 1 or len(function.outputs) != 1:
        name = function.function_type.milvus_name
        raise ParameterInvalid(f"{name} function should have exactly one input field and exactly one output field")
    if function.outputs[0] != output.name:
        raise ParameterInvalid(
            f'function output field "{function.outputs[0]}" must be the newly-added field "{output.name}"'
        )
    made = {name for known in schema.functions for name in known.outputs}
    if function.inputs[0] in made:
        raise ParameterInvalid(
            f"function {function.name} input field {function.inputs[0]} is the output of another function; "
            "function cascade is not supported"
        )


_ALTERABLE = {
    FunctionType.TEXT_EMBEDDING: frozenset(
        [
            "url",
            "credential",
            "integration_id",
            "model_deployment_id",
            "timeout_ms",
            "max_client_batch_size",
            "region",
            "location",
            "projectid",
            "user",
        ]
    )
}
"""The parameters that may change: they never change the vector of a text."""


def check_altered_function(known: FunctionSchema, altered: FunctionSchema) -> None:
    """Raises ParameterInvalid unless only parameters differ that say how a model is reached."""
    for attribute, what in (("function_type", "type"), ("inputs", "input fields"), ("outputs", "output fields")):
        if getattr(known, attribute) != getattr(altered, attribute):
            raise ParameterInvalid(f"function {what} cannot be altered: function {known.name}")
    alterable = _ALTERABLE.get(known.function_type, frozenset())
    if not alterable:
        raise ParameterInvalid(f"function type {known.function_type.milvus_name} has no alterable params")
    before, after = _lower(known.params), _lower(altered.params)
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key) and key not in alterable:
            raise ParameterInvalid(
                f'function param "{key}" cannot be altered for function {known.name}; '
                "only connection/runtime params may be changed"
            )


def _lower(params: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in params.items():
        if key.lower() in found:
            raise ParameterInvalid(f'duplicate function param key "{key}"')
        found[key.lower()] = value
    return found


def _fields(schema: CollectionSchema, names: Sequence[str], what: str) -> list[FieldSchema]:
    for name in names:
        if name not in schema.by_name:
            raise ParameterInvalid(f"function {what} field not found: {name}")
    return [schema.by_name[name] for name in names]


def _check_basics(function: FunctionSchema) -> None:
    if not function.name:
        raise ParameterMissing("function name cannot be empty")
    of = f", function: {function.name}"
    for names, what in ((function.inputs, "input"), (function.outputs, "output")):
        if not names:
            raise ParameterMissing(f"function {what} field names cannot be empty{of}")
    for name in function.inputs:
        if not name:
            raise ParameterMissing(f"function input field name cannot be empty string{of}")
        if function.inputs.count(name) > 1:
            raise ParameterInvalid(
                f"each function input field should be used exactly once in the same function{of}, input field: {name}"
            )
    for name in function.outputs:
        if not name:
            raise ParameterMissing(f"function output field name cannot be empty string{of}")
        if name in function.inputs:
            raise ParameterInvalid(
                f"a single field cannot be both input and output in the same function{of}, field: {name}"
            )
        if function.outputs.count(name) > 1:
            raise ParameterInvalid(
                f"each function output field should be used exactly once in the same function{of}, output field: {name}"
            )
    if function.function_type not in _CHECKS:
        raise ParameterInvalid("check function params with unknown function type")
    if function.function_type is FunctionType.BM25 and function.params:
        raise ParameterInvalid("BM25 function accepts no params")
    if function.function_type is FunctionType.TEXT_EMBEDDING and not function.params:
        raise ParameterInvalid("TextEmbedding function accepts no params")  # Milvus's text: there are none


def _check_outputs(schema: CollectionSchema, function: FunctionSchema, used: set[str]) -> None:
    for field in _fields(schema, function.outputs, "output"):
        where = f"function {function.name}, field {field.name}"
        if field.is_primary:
            raise ParameterInvalid(f"function output field cannot be primary key: {where}")
        if field.is_partition_key:
            raise ParameterInvalid(f"function output field cannot be partition key or clustering key: {where}")
        if field.nullable:
            raise ParameterInvalid(f"function output field cannot be nullable: {where}")
        if field.name in used:
            raise ParameterInvalid(f"duplicate function output field: {where}")
        used.add(field.name)
    _CHECKS[function.function_type].outputs(function, [schema.by_name[name] for name in function.outputs])


def _check_text(function: FunctionSchema, fields: Sequence[FieldSchema]) -> None:
    if len(fields) != 1 or fields[0].data_type is not DataType.VARCHAR:
        raise ParameterInvalid(
            f"{function.function_type.milvus_name} function input field must be a VARCHAR/TEXT field, "
            f"got {len(fields)} field with type {fields[0].data_type.milvus_name}"
        )


def _check_analyzed_text(function: FunctionSchema, fields: Sequence[FieldSchema]) -> None:
    _check_text(function, fields)
    if not enables_analyzer(fields[0]):
        raise ParameterInvalid("BM25 function input field must set enable_analyzer to true")


def _check_output(function: FunctionSchema, fields: Sequence[FieldSchema], wanted: DataType) -> None:
    name = function.function_type.milvus_name
    if len(fields) != 1:
        raise ParameterInvalid(f"{name} function only need 1 output field, but got {len(fields)}")
    if fields[0].data_type is not wanted:
        raise ParameterInvalid(
            f"{name} function output field must be a {wanted.milvus_name} field, "
            f"but got {fields[0].data_type.milvus_name}"
        )


def _check_sparse(function: FunctionSchema, fields: Sequence[FieldSchema]) -> None:
    _check_output(function, fields, DataType.SPARSE_FLOAT_VECTOR)


def _check_bits(function: FunctionSchema, fields: Sequence[FieldSchema]) -> None:
    _check_output(function, fields, DataType.BINARY_VECTOR)


def _check_embedded_text(function: FunctionSchema, fields: Sequence[FieldSchema]) -> None:
    if len(fields) != 1 or fields[0].data_type is not DataType.VARCHAR:
        raise ParameterInvalid("TextEmbedding function input field must be a VARCHAR/TEXT field")
    if fields[0].nullable:
        raise ParameterInvalid(
            f"function input field cannot be nullable: function {function.name}, field {fields[0].name}"
        )


def _check_embedding(_: FunctionSchema, fields: Sequence[FieldSchema]) -> None:
    if len(fields) != 1 or fields[0].data_type not in (DataType.FLOAT_VECTOR, DataType.INT8_VECTOR):
        raise ParameterInvalid("TextEmbedding function output field must be a FloatVector or Int8Vector field")


@record
class _Checks:
    """The checks of a type's fields."""

    inputs: Callable[[FunctionSchema, Sequence[FieldSchema]], None]
    outputs: Callable[[FunctionSchema, Sequence[FieldSchema]], None]


_CHECKS = {
    FunctionType.BM25: _Checks(_check_analyzed_text, _check_sparse),
    FunctionType.MIN_HASH: _Checks(_check_text, _check_bits),
    FunctionType.TEXT_EMBEDDING: _Checks(_check_embedded_text, _check_embedding),
}
"""The served types."""
