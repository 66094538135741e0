"""Arithmetic between literals, as in Go: integers wrap around at 64 bits, floats may become infinite."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from milvine.expr.errors import FilterError
from milvine.expr.literals import INT64_MIN
from milvine.expr.tree import Literal, Operation, Scalar

SHIFT_BITS = 64
_TEXT_CHARACTERS = 256
NAMES = {
    Operation.ADD: "add",
    Operation.SUBTRACT: "subtract",
    Operation.MULTIPLY: "multiply",
    Operation.DIVIDE: "divide",
    Operation.MODULO: "modulo",
    Operation.BIT_AND: "bitand",
    Operation.BIT_OR: "bitor",
    Operation.BIT_XOR: "bitxor",
    Operation.SHIFT_LEFT: "shiftleft",
    Operation.SHIFT_RIGHT: "shiftright",
}
BIT_OPERATIONS = frozenset(
    {Operation.BIT_AND, Operation.BIT_OR, Operation.BIT_XOR, Operation.SHIFT_LEFT, Operation.SHIFT_RIGHT}
)
COMPUTE: dict[Operation, Callable[[Any, Any], Any]] = {
    Operation.ADD: operator.add,
    Operation.SUBTRACT: operator.sub,
    Operation.MULTIPLY: operator.mul,
    Operation.DIVIDE: operator.truediv,
    Operation.BIT_AND: operator.and_,
    Operation.BIT_OR: operator.or_,
    Operation.BIT_XOR: operator.xor,
    Operation.SHIFT_LEFT: operator.lshift,
    Operation.SHIFT_RIGHT: operator.rshift,
}
"""For two numbers, or an array and a number. Division of integers is separate."""


def fold(left: Literal, operation: Operation, right: Literal) -> Literal:
    """Raises FilterError for constants that Milvus does not compute."""
    text = f"{left.text}{operation}{right.text}"
    value = _folded(left, operation, right, text)
    return Literal(left.position, value, shortened(text, value))


def fold_signed(position: int, sign: str, operand: Literal) -> Literal:
    """`-operand` or `~operand`."""
    number, text = operand.value, f"{sign}{operand.text}"
    value: Scalar
    if sign == "~":
        if type(number) is not int:
            raise FilterError("bitnot can only apply on integer fields", position)
        value = ~number
    elif isinstance(number, bool | str):
        raise FilterError(f"unsupported expression: {text}", position)
    else:
        value = wrapped(-number) if isinstance(number, int) else -number
    return Literal(position, value, shortened(text, value))


def shortened(text: str, value: Scalar) -> str:
    """A constant as messages quote it: as written, or for a long chain of operations its value."""
    return text if len(text) <= _TEXT_CHARACTERS or isinstance(value, str) else repr(value)


def wrapped(value: int) -> int:
    return (value - INT64_MIN) % 2**64 + INT64_MIN


def _folded(left: Literal, operation: Operation, right: Literal, text: str) -> int | float:
    a, b, position = left.value, right.value, left.position
    are_integers = type(a) is int and type(b) is int
    if operation is Operation.MODULO and not are_integers:
        raise FilterError("modulo can only apply on integer", position)
    if operation in BIT_OPERATIONS and not are_integers:
        raise FilterError(f"{NAMES[operation]} can only apply on integer fields", position)
    for kind, word in ((bool, "bool"), (str, "string")):
        if isinstance(a, kind) or isinstance(b, kind):
            if operation is Operation.POWER:
                raise FilterError(f"power can only apply on constants: {text}", position)
            raise FilterError(f"{NAMES[operation]} cannot apply on {word} field", position)
    assert not isinstance(a, str)
    assert not isinstance(b, str)
    match operation:
        case Operation.POWER:
            return _power(a, b)
        case Operation.DIVIDE | Operation.MODULO if b == 0:
            raise FilterError(f"cannot {NAMES[operation]} by zero", position)
        case Operation.SHIFT_LEFT | Operation.SHIFT_RIGHT if not 0 <= b < SHIFT_BITS:
            raise FilterError(f"shift amount must be in range [0, {SHIFT_BITS}), got {b}", position)
    if isinstance(a, int) and isinstance(b, int):
        return _of_integers(a, operation, b)
    return float(COMPUTE[operation](float(a), float(b)))


def _of_integers(a: int, operation: Operation, b: int) -> int:
    """Division truncates towards zero, and a remainder has the sign of the dividend."""
    if operation not in (Operation.DIVIDE, Operation.MODULO):
        return wrapped(COMPUTE[operation](a, b))
    quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return wrapped(quotient) if operation is Operation.DIVIDE else a - quotient * b


def _power(a: int | float, b: int | float) -> int | float:
    """In double precision. Two integers give an integer, unless the exponent is negative or the power too large."""
    with np.errstate(all="ignore"):
        power = float(np.power(np.float64(a), np.float64(b)))
    if not (isinstance(a, int) and isinstance(b, int)) or b < 0 or math.isnan(power) or power > 2.0**63:
        return power
    return int(power) if INT64_MIN <= power < 2.0**63 else INT64_MIN
