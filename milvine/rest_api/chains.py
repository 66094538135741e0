"""JSON -> function chains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from milvine.errors import ParameterInvalid
from milvine.model.requests import ChainArgument, ChainExpression, ChainOperator, FunctionChain
from milvine.rest_api.body import Body
from milvine.service.reading.chains import STAGES

_Read = TypeVar("_Read")


def function_chains(body: Body) -> tuple[FunctionChain, ...]:
    return tuple(
        _within(f"functionChains[{place}]", _function_chain, chain)
        for place, chain in enumerate(body.inners("functionChains"))
    )


def _within(place: str, read: Callable[[Any], _Read], given: Any) -> _Read:
    """What `read` makes of it. Raises ParameterInvalid with the place before the text, as Milvus does."""
    try:
        return read(given)
    except ParameterInvalid as error:
        raise ParameterInvalid(f"{place}: {error.message}") from error


def _function_chain(chain: Body) -> FunctionChain:
    stage = chain.text("stage").strip()
    if stage not in STAGES:
        raise ParameterInvalid(f"unsupported function chain stage: {stage}")
    operators = [_within(f"ops[{place}]", _operator, one) for place, one in enumerate(chain.inners("ops"))]
    return FunctionChain(STAGES[stage], tuple(operators))


def _operator(operator: Body) -> ChainOperator:
    name = operator.text("op").strip()
    if not name:
        raise ParameterInvalid("op name is empty")
    params = _within("params", _params, operator.mapping("params"))
    expression = None
    if operator.value("expr") is not None:
        expression = _within("expr", _expression, operator.inner("expr"))
    return ChainOperator(name, expression, operator.texts("inputs"), operator.texts("outputs"), params)


def _expression(expression: Body) -> ChainExpression:
    name = expression.text("name").strip()
    if not name:
        raise ParameterInvalid("expr name is empty")
    arguments = [_within(f"args[{place}]", _argument, one) for place, one in enumerate(expression.inners("args"))]
    return ChainExpression(name, tuple(arguments), _within("params", _params, expression.mapping("params")))


def _argument(argument: Body) -> ChainArgument:
    column, literal = argument.value("column"), argument.value("literal")
    if (column is None) == (literal is None):
        raise ParameterInvalid("exactly one of column or literal is required")
    if column is None:
        return ChainArgument(None)
    name = argument.text("column").strip()
    if not name:
        raise ParameterInvalid("column name is empty")
    return ChainArgument(name)


def _params(params: Mapping[str, Any]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in params.items():
        if not key.strip():
            raise ParameterInvalid("param name is empty")
        if value is None:
            text = ParameterInvalid("function param value is nil").message
            raise ParameterInvalid(f'param "{key}": {text}')
        found[key.strip()] = value
    return found
