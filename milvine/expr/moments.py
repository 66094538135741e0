"""Comparisons of TIMESTAMPTZ fields with written moments: `f > ISO '…'` and `f + INTERVAL 'P1M' <= ISO '…'`."""

from __future__ import annotations

from collections.abc import Callable

from milvine.expr import tree
from milvine.expr.errors import FilterError
from milvine.expr.predicate import Compare, CompareMoment, Predicate, Target
from milvine.expr.tree import Operation
from milvine.model.moments import BadMoment, Interval, parse_interval, parse_moment
from milvine.model.types import DataType

_SIGNS = {Operation.ADD: 1, Operation.SUBTRACT: -1}
_NONE = Interval(0, 0)


def compare_moment(node: tree.Comparison, target_of: Callable[[tree.Column], Target], zone: str) -> Predicate:
    """One side is a moment. Without an offset it is in `zone`. Raises FilterError."""
    is_right = isinstance(node.right, tree.Moment)
    operand, moment = (node.left, node.right) if is_right else (node.right, node.left)
    comparator = node.comparator if is_right else node.comparator.mirrored
    assert isinstance(moment, tree.Moment)
    interval, sign = _NONE, 1
    if isinstance(operand, tree.Arithmetic) and isinstance(operand.right, tree.Duration):
        interval, sign = _interval(operand.right), _SIGNS.get(operand.operation, 0)
        operand = operand.left
    if not isinstance(operand, tree.Column) or sign == 0:
        raise FilterError(f"invalid expression: {node}", node.position)
    target = target_of(operand)
    if target.value_type is not DataType.TIMESTAMPTZ:
        raise FilterError(f"field '{operand}' is not a timestamptz datatype", node.position)
    try:
        value = parse_moment(moment.value, zone)
    except BadMoment as error:
        raise FilterError(str(error), moment.position) from error
    if not interval.months:
        return Compare(target, comparator, value - sign * interval.micros)
    return CompareMoment(target, sign * interval.months, sign * interval.micros, comparator, value)


def _interval(duration: tree.Duration) -> Interval:
    try:
        return parse_interval(duration.value)
    except ValueError as error:
        raise FilterError(str(error), duration.position) from error
