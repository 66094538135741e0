"""Comparisons and memberships of fields, as predicates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from milvine.expr import predicate as bound
from milvine.expr import tree
from milvine.expr.errors import ArgumentError, FilterError
from milvine.expr.operands import EQUALITY, Constant, constant_type, refuse_comparison, unlike_elements
from milvine.expr.predicate import Always, Compare, In, Predicate, Target, integer_equivalent, literal_set
from milvine.expr.tree import Comparator, ContainsMode, Element, Literal, Node, Scalar, Template
from milvine.model.types import DataType


def compare_array(
    node: tree.Comparison, target: Target, comparator: Comparator, values: Sequence[Element]
) -> Predicate:
    if unlike_elements(target.element_type, values) is not None:
        refuse_comparison(node, target.type_name, "Array")
    equals = bound.ArrayEquals(target, values)
    return equals if comparator is Comparator.EQ else bound.Not(equals)


def fold_comparison(node: tree.Comparison, left: Constant, right: Constant) -> Predicate:
    if isinstance(left, Template) or isinstance(right, Template):
        reason = f"placeholder was not supported between two constants with operator: {node.comparator}"
        raise ArgumentError(reason, node.position)
    kinds = {constant_type(left), constant_type(right)}
    is_ordered = node.comparator not in EQUALITY
    if (kinds != {"Int64", "Double"} and len(kinds) > 1) or kinds & ({"Array", "Bool"} if is_ordered else {"Array"}):
        reason = f"comparison operations cannot be applied to two incompatible operands: {node}"
        raise ArgumentError(reason, node.position)
    assert isinstance(left, Literal)
    assert isinstance(right, Literal)
    return Always(bound.compare_scalars(left.value, node.comparator, right.value))


def compare_fields(node: tree.Comparison, left: Target, right: Target) -> Predicate:
    if any(t.data_type is DataType.ARRAY or t.is_length for t in (left, right)):
        raise FilterError("field-to-field comparison involving ARRAY fields is not supported", node.position)
    types = left.data_type, right.data_type
    is_ordered_boolean = types[0] is DataType.BOOL and node.comparator not in EQUALITY
    if is_ordered_boolean or not _are_comparable(*types):
        refuse_comparison(node, *(t.milvus_name for t in types))
    if DataType.JSON in types:
        raise FilterError("two column comparison with JSON type is not supported", node.position)
    return bound.CompareFields(left, node.comparator, right)


def _are_comparable(left: DataType, right: DataType) -> bool:
    if left.is_vector:
        return False
    is_number = [t.is_integer or t.is_floating for t in (left, right)]
    return left is DataType.JSON or right is DataType.JSON or left is right or all(is_number)


def compare(target: Target, comparator: Comparator, value: Scalar) -> Predicate:
    """The value is converted to the field's kind; for JSON it is kept as written."""
    if target.value_type.is_integer and isinstance(value, float):
        return Compare(target, *integer_equivalent(comparator, value))
    if target.value_type.is_floating:
        return Compare(target, comparator, float(value))
    return Compare(target, comparator, value)


def membership(target: Target, values: Sequence[Element]) -> Predicate:
    """`in` over values that fit the field. Lists are compared with arrays one by one."""
    lists = [v for v in values if isinstance(v, list | tuple)]
    if lists:
        scalars = _scalars(values)
        equal = [bound.ArrayEquals(target, v) for v in lists]
        return bound.disjunction([*equal, *([_scalar_membership(target, scalars)] if scalars else [])])
    return _scalar_membership(target, cast(Sequence[Scalar], values))


def _scalars(values: Sequence[Element]) -> list[Scalar]:
    return [v for v in values if isinstance(v, Scalar)]


def _scalar_membership(target: Target, values: Sequence[Scalar]) -> Predicate:
    has_value = not target.is_nullable and not target.path
    if has_value and target.data_type is DataType.BOOL and set(values) == {False, True}:
        return Always(True)
    if target.value_type.is_floating:
        values = [float(v) for v in values]
    return In(target, literal_set(values))


def contains(target: Target, mode: ContainsMode, values: Sequence[Element]) -> Predicate:
    """An array has any of the values, or with ALL all of them. The values fit the field."""
    lists = tuple(v for v in values if isinstance(v, list | tuple))
    if not lists:
        return bound.Contains(target, mode, literal_set(cast(Sequence[Scalar], values)))
    has_lists = bound.ContainsLists(target, mode, lists)
    if len(lists) == len(values):
        return has_lists
    has_scalars = bound.Contains(target, mode, literal_set(_scalars(values)))
    join = bound.conjunction if mode is ContainsMode.ALL else bound.disjunction
    return join([has_scalars, has_lists])


def gathered(operands: list[Predicate]) -> list[Predicate]:
    """`f == 1 or f == 2 or …` as `f in [1, 2, …]`: one pass over the column instead of one per value."""
    values: dict[Target, list[Scalar]] = {}
    others: list[Predicate] = []
    for operand in operands:
        match operand:
            case Compare(Target(path=()) as target, Comparator.EQ, value) if bound.is_storable(value):
                values.setdefault(target, []).append(value)
            case _:
                others.append(operand)
    return [*others, *(_equal_to_any(target, found) for target, found in values.items())]


def _equal_to_any(target: Target, values: list[Scalar]) -> Predicate:
    is_single = len(values) == 1
    return Compare(target, Comparator.EQ, values[0]) if is_single else In(target, literal_set(values))


def check_bounds(node: Node, lower: tuple[Scalar, bool], upper: tuple[Scalar, bool]) -> None:
    """Each bound is a value and whether it is inclusive."""
    if {type(lower[0]), type(upper[0])} - {int, float} not in (set(), {str}) or (
        isinstance(lower[0], str) is not isinstance(upper[0], str)
    ):
        raise FilterError("invalid range: bounds are not comparable", node.position)
    is_inclusive = lower[1] and upper[1]
    if not bound.compare_scalars(lower[0], Comparator.LE if is_inclusive else Comparator.LT, upper[0]):
        raise FilterError("invalid range: lowerbound is greater than upperbound", node.position)
