"""The operands of operators in one schema: their types, their names in Milvus, and the values that fit them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, TypeGuard

from milvine.expr.errors import FilterError, PlanError
from milvine.expr.predicate import Always, Predicate, Target
from milvine.expr.tree import Comparator, Element, Literal, LiteralList, Node, Operation, Template
from milvine.model.records import record
from milvine.model.types import DataType

Constant = Literal | LiteralList | Template


@record
class Computed:
    """`left operation right`, not both literals. The comparison around it decides whether it can be a plan."""

    left: Operand
    operation: Operation
    right: Operand
    data_type: DataType


Operand = Predicate | Target | Constant | Computed

EQUALITY = (Comparator.EQ, Comparator.NE)
LITERAL_TYPES: dict[type, DataType] = {
    bool: DataType.BOOL,
    int: DataType.INT64,
    float: DataType.DOUBLE,
    str: DataType.VARCHAR,
}


def data_type_of(operand: Operand) -> DataType:
    match operand:
        case Computed():
            return operand.data_type
        case Target():
            return operand.value_type
        case Literal(_, value):
            return LITERAL_TYPES[type(value)]
        case LiteralList() | Template():
            return DataType.ARRAY
        case _:
            return DataType.BOOL


def type_name(operand: Operand) -> str:
    return "None" if isinstance(operand, Template) else data_type_of(operand).milvus_name


def constant_type(constant: Constant | Element) -> str:
    value = constant.value if isinstance(constant, Literal) else constant
    data_type = LITERAL_TYPES.get(type(value))
    if data_type is not None:
        return data_type.milvus_name
    return "None" if isinstance(value, Template) else "Array"


def generic(value: Element) -> str:
    """A value as Go prints planpb.GenericValue."""
    match value:
        case bool():
            return f"bool_val:{str(value).lower()}"
        case int():
            return f"int64_val:{value}"
        case float():
            return f"float_val:{value:g}"
        case str():
            return f'string_val:"{value}"'
        case _:
            return "array_val:{" + " ".join(f"array:{{{generic(v)}}}" for v in value) + "}"


def accepts(data_type: DataType, value: Element, *, is_strict: bool = False) -> bool:
    """Whether the literal fits the field; `is_strict` refuses a float for an integer field."""
    if data_type is DataType.JSON:
        return True
    if data_type is DataType.ARRAY:
        return isinstance(value, list | tuple)
    if data_type is DataType.TIMESTAMPTZ:
        return type(value) is int
    if data_type.is_integer:
        return type(value) is int or (type(value) is float and not is_strict)
    if data_type.is_floating:
        return type(value) in (int, float)
    return LITERAL_TYPES.get(type(value)) is data_type


def refuse_comparison(node: Node, left: str, right: str) -> NoReturn:
    raise FilterError(f"comparisons between {left} and {right} are not supported", node.position)


def cannot_cast(data_type: DataType, value: Element, position: int) -> PlanError:
    return PlanError(f"cannot cast value to {data_type.milvus_name}, value: {generic(value)}", position)


def without_folding(operand: Operand, node: Node) -> Operand:
    """A folded constant as the literal of its value."""
    return Literal(node.position, operand.value, str(node)) if isinstance(operand, Always) else operand


def has_elements(operand: Operand) -> TypeGuard[Target]:
    """Whether it is an array, or may be one: a whole ARRAY field, or anything in a JSON field."""
    if not isinstance(operand, Target) or operand.is_length:
        return False
    return operand.data_type is DataType.JSON or (operand.data_type is DataType.ARRAY and not operand.path)


def unlike_elements(element_type: DataType | None, values: Sequence[Element]) -> Element | None:
    """The first value that cannot be compared with elements of the type, or None."""
    if element_type is None:
        return None
    refused = [k for k in set(map(type, values)) if not accepts(element_type, k())]
    return next(v for v in values if type(v) in refused) if refused else None
