"""`values operation operand` over whole columns, as C++ computes it.

Integers are int64 and wrap around, division goes towards zero, and what remains has the sign of the dividend.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from milvine.expr.tree import Operation

Array = np.ndarray[Any, Any]


def compute(values: Array, operation: Operation, operand: int | float) -> Array:
    """The operand of a division is not 0, and that of a shift less than 64. A float makes integers floats."""
    if values.dtype.kind == "i":
        values = values.astype(np.int64 if isinstance(operand, int) else np.float64, copy=False)
    with np.errstate(all="ignore"):
        match operation:
            case Operation.ADD:
                return np.add(values, operand)
            case Operation.SUBTRACT:
                return np.subtract(values, operand)
            case Operation.MULTIPLY:
                return np.multiply(values, operand)
            case Operation.DIVIDE if values.dtype.kind == "i":
                return np.asarray(np.floor_divide(values - np.fmod(values, operand), operand))
            case Operation.DIVIDE:
                return np.divide(values, operand)
            case Operation.MODULO:
                return np.asarray(np.fmod(values, operand))
            case _:
                return _on_bits(values.astype(np.int64, copy=False), operation, int(operand))


def _on_bits(values: Array, operation: Operation, operand: int) -> Array:
    match operation:
        case Operation.BIT_AND:
            return np.bitwise_and(values, operand)
        case Operation.BIT_OR:
            return np.bitwise_or(values, operand)
        case Operation.BIT_XOR:
            return np.bitwise_xor(values, operand)
        case Operation.SHIFT_LEFT:
            return np.left_shift(values, operand)
        case Operation.SHIFT_RIGHT:
            return np.right_shift(values, operand)
        case _:
            raise AssertionError(operation)
