"""The checks of the functions of a new schema, with Milvus's messages (internal/util/function/validator)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from milvine.errors import ParameterInvalid, ParameterMissing
from milvine.model.analyzer_params import enables_analyzer
from milvine.model.functions import FunctionSchema, FunctionType
from milvine.model.known_keys import unsupported
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import DataType

HASH_BITS = 32
"""Of each hash of a MinHash signature."""
_INTEGER = re.compile(r"[+-]?[0-9]+")
_HASH_FUNCTIONS = frozenset({"xxhash", "xxhash64", "sha1"})
_TOKEN_LEVELS = frozenset({"char", "character", "word"})


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
    if function.function_type is FunctionType.TEXT_EMBEDDING:
        raise ParameterInvalid(unsupported("a text embedding function"))
    if function.function_type not in _CHECKS:
        raise ParameterInvalid("check function params with unknown function type")
    if function.function_type is FunctionType.BM25 and function.params:
        raise ParameterInvalid("BM25 function accepts no params")


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


def _check_signature(function: FunctionSchema, fields: Sequence[FieldSchema]) -> None:
    _check_output(function, fields, DataType.BINARY_VECTOR)
    hashes = 0
    for key, value in function.params.items():
        match key.lower():
            case "num_hashes":
                hashes = _positive("num_hashes", value)
            case "shingle_size":
                _positive("shingle_size", value)
            case "hash_function" if value.lower() not in _HASH_FUNCTIONS:
                raise ParameterInvalid(f"unknown hash function: {value} (expected 'xxhash64' or 'sha1')")
            case "token_level" if value.lower() not in _TOKEN_LEVELS:
                raise ParameterInvalid(f"unknown token_level: {value} (expected 'char' or 'word')")
            case "seed":
                _number("seed", value)
            case _:
                pass
    field = fields[0]
    dim = -1 if field.dim is None else field.dim
    if hashes and dim != hashes * HASH_BITS:
        raise ParameterInvalid(
            f"minhash function output field '{field.name}' dim {dim} does not match expected dim {hashes * HASH_BITS} "
            f"(numHashes {hashes} * one minhash signature size of 32bit)"
        )
    if dim % HASH_BITS:
        raise ParameterInvalid(
            f"minhash function output field '{field.name}' dim {dim} is not multiple of 32 (one minhash signature size)"
        )


def _number(name: str, value: str) -> int:
    if not _INTEGER.fullmatch(value) or not -(2**63) <= int(value) < 2**63:
        raise ParameterInvalid(f"param {name}:{value} is not a number")
    return int(value)


def _positive(name: str, value: str) -> int:
    number = _number(name, value)
    if number <= 0:
        raise ParameterInvalid(f"param {name}:{number} must be positive")
    return number


class _Checks:
    """The checks of a type's fields."""

    def __init__(
        self,
        inputs: Callable[[FunctionSchema, Sequence[FieldSchema]], None],
        outputs: Callable[[FunctionSchema, Sequence[FieldSchema]], None],
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs


_CHECKS = {
    FunctionType.BM25: _Checks(_check_analyzed_text, _check_sparse),
    FunctionType.MIN_HASH: _Checks(_check_text, _check_signature),
}
"""The served types."""
