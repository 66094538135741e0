"""Arithmetic over fields: the allowed types, and the one form that a plan can have."""

from __future__ import annotations

from collections.abc import Sequence

from milvine.expr import tree
from milvine.expr.errors import FilterError
from milvine.expr.folding import BIT_OPERATIONS, NAMES, SHIFT_BITS
from milvine.expr.operands import LITERAL_TYPES, Computed, Constant, Operand, data_type_of, generic, type_name
from milvine.expr.predicate import Target
from milvine.expr.tree import Element, Literal, LiteralList, Node, Operation, Scalar, Template
from milvine.model.types import DataType


def computed_type(node: tree.Arithmetic, left: Operand, right: Operand, name: str | None = None) -> DataType:
    """The type of the computation: INT64 or DOUBLE. With a template, that of the other side."""
    if isinstance(left, Template) or isinstance(right, Template):
        other = right if isinstance(left, Template) else left
        return data_type_of(other)
    for side in (left, right):
        if isinstance(side, LiteralList):
            other = right if side is left else left
            raise FilterError(f"incompatible data type, {type_name(other)}, None", node.position)
    field, other = (right, left) if isinstance(left, Literal) else (left, right)
    types = _number_type(field), _number_type(other)
    if not _can_compute(*types):
        names = f"{type_name(field)} field and {type_name(other)}"
        reason = f"'{name or NAMES[node.operation]}' cannot perform arithmetic between {names}"
        raise FilterError(reason, node.position)
    _refuse_fractions(node.operation, types, node.position, FilterError)
    return DataType.DOUBLE if any(t is not None and t.is_floating for t in types) else DataType.INT64


def _number_type(operand: Operand) -> DataType | None:
    """The type of the operand's numbers; JSON if it may have numbers; None if it has none."""
    data_type = None if isinstance(operand, Template) else data_type_of(operand)
    return data_type if data_type is not None and _has_numbers(data_type) else None


def _has_numbers(data_type: DataType) -> bool:
    return data_type.is_integer or data_type.is_floating or data_type is DataType.JSON


def _can_compute(field: DataType | None, other: DataType | None) -> bool:
    if field is None or other is None:
        return False
    if field is DataType.JSON:
        return other is not DataType.JSON
    return not (field.is_integer and other.is_floating)


def _refuse_fractions(
    operation: Operation, types: Sequence[DataType | None], position: int, refusal: type[FilterError]
) -> None:
    """Remainders and bit operators need integers, or JSON."""
    if any(t is None or not (t.is_integer or t is DataType.JSON) for t in types):
        if operation is Operation.MODULO:
            raise refusal("modulo can only apply on integer types", position)
        if operation in BIT_OPERATIONS:
            raise refusal("bitwise operations can only apply on integer types", position)


def sides_of(computed: Computed, node: Node) -> tuple[Target, Constant]:
    """The field and the constant. Milvus allows one operation on one field; a constant may be first only in + and *."""
    sides = computed.left, computed.right
    if all(isinstance(s, Target) and not s.is_length for s in sides):
        raise FilterError("not supported to do arithmetic operations between multiple fields", node.position)
    match sides:
        case Target(is_length=False) as target, Literal() | Template() as constant:
            return target, constant
        case Literal() | Template() as constant, Target(is_length=False) as target:
            if computed.operation not in (Operation.ADD, Operation.MULTIPLY):
                raise FilterError("module field is not yet supported", node.position)
            return target, constant
        case _:
            raise FilterError("complicated arithmetic operations are not supported", node.position)


def check_operand(
    operation: Operation, field_type: DataType, number: Element, position: int, refusal: type[FilterError]
) -> DataType:
    """The type of the computation. The value of a template must meet the same rules as a literal."""
    if not isinstance(number, Scalar):
        raise refusal("can not comparisons array directly", position)
    operand_type = LITERAL_TYPES[type(number)]
    _refuse_fractions(operation, (field_type, operand_type), position, refusal)
    is_fraction = field_type.is_integer and isinstance(number, float)
    if isinstance(number, bool | str) or not _has_numbers(field_type) or is_fraction:
        names = f"{field_type.milvus_name}, {operand_type.milvus_name}"
        raise refusal(f"incompatible data type, {names}", position)
    if operation in (Operation.DIVIDE, Operation.MODULO) and number == 0:
        raise refusal("division or modulus by zero", position)
    if operation in (Operation.SHIFT_LEFT, Operation.SHIFT_RIGHT) and not 0 <= number < SHIFT_BITS:
        raise refusal(f"shift amount must be in range [0, {SHIFT_BITS}), got {generic(number)}", position)
    return DataType.DOUBLE if field_type.is_floating or isinstance(number, float) else DataType.INT64
