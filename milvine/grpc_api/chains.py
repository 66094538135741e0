"""Protobuf -> function chains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from milvine.model.requests import ChainArgument, ChainExpression, ChainOperator, FunctionChain


def function_chain(chain: Any) -> FunctionChain:
    return FunctionChain(chain.stage, tuple(_operator(operator) for operator in chain.ops))


def _operator(operator: Any) -> ChainOperator:
    expression = None
    if operator.HasField("expr"):
        given = operator.expr
        arguments = tuple(_argument(argument) for argument in given.args)
        expression = ChainExpression(given.name, arguments, _params(given.params))
    inputs, outputs = tuple(operator.inputs), tuple(operator.outputs)
    return ChainOperator(operator.op, expression, inputs, outputs, _params(operator.params))


def _argument(argument: Any) -> ChainArgument:
    kind = argument.WhichOneof("arg")
    return ChainArgument(argument.column.name if kind == "column" else None, is_set=kind is not None)


def _params(params: Mapping[str, Any]) -> dict[str, object]:
    return {key: _param(value) for key, value in params.items()}


def _param(value: Any) -> object:
    """None for one without a value."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_param(item) for item in value.array_value.values]
    if kind == "object_value":
        return _params(value.object_value.fields)
    return cast(object, getattr(value, kind))
