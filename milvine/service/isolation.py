"""Partition key isolation: in such a collection every search names one value of the partition key.

Texts: Milvus's internal/util/exprutil/expr_checker.go.
"""

from __future__ import annotations

from milvine.errors import ParameterInvalid
from milvine.expr import Predicate
from milvine.expr.predicate import And, Compare, In, Like, Not, Or
from milvine.expr.tree import Comparator
from milvine.model.collections import Collection
from milvine.model.properties import is_isolated

_NAMES = {
    Comparator.NE: "NotEqual",
    Comparator.LT: "LessThan",
    Comparator.LE: "LessEqual",
    Comparator.GT: "GreaterThan",
    Comparator.GE: "GreaterEqual",
}
_BELOW, _ABOVE = (Comparator.LT, Comparator.LE), (Comparator.GT, Comparator.GE)


def check_isolation(collection: Collection, predicate: Predicate | None) -> None:
    """Raises ParameterInvalid unless the filter is `key == value`, alone or joined with others by `and`."""
    key = collection.schema.partition_key
    if key is None or not is_isolated(collection.properties):
        return
    if predicate is None or not _names_key(predicate, key.field_id):
        raise ParameterInvalid(
            "partition key not found in expr or the expr is invalid when validating partition key isolation"
        )


def _names_key(predicate: Predicate, key_id: int) -> bool:
    match predicate:
        case And(operands):
            _refuse_range(operands, key_id)
            found = [_names_key(p, key_id) for p in operands]
            return True in found
        case Or(operands):
            found = [_names_key(p, key_id) for p in operands]
            if True in found:
                raise _unsupported("OR")
        case Not(operand):
            if _names_key(operand, key_id):
                raise _unsupported("NOT")
        case In(target) if target.field_id == key_id:
            raise _unsupported("IN")
        case Like(target, pattern) if target.field_id == key_id:
            raise _unsupported(_match_name(pattern))
        case Compare(target, comparator) if target.field_id == key_id:
            if comparator is not Comparator.EQ:
                raise _unsupported(_NAMES[comparator])
            return True
        case _:
            pass
    return False


def _refuse_range(operands: tuple[Predicate, ...], key_id: int) -> None:
    """`low < key < high` is one condition for Milvus."""
    bounds = {p.comparator for p in operands if isinstance(p, Compare) and p.target.field_id == key_id}
    if not bounds.isdisjoint(_BELOW) and not bounds.isdisjoint(_ABOVE):
        raise _unsupported("BinaryRange")


def _match_name(pattern: str) -> str:
    inner = pattern.strip("%")
    if "%" in inner or "_" in inner:
        return "Match"
    is_open_left, is_open_right = pattern.startswith("%"), pattern.endswith("%")
    if is_open_left and is_open_right:
        return "InnerMatch"
    return "PostfixMatch" if is_open_left else "PrefixMatch"


def _unsupported(what: str) -> ParameterInvalid:
    return ParameterInvalid(f"partition key isolation does not support {what}")
