"""`values operation operand` over whole columns, as C++ computes it.

Integers are int64 and wrap around, division truncates towards zero, and a remainder has the sign of the dividend.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from milvine.expr.folding import BIT_OPERATIONS, COMPUTE
from milvine.expr.tree import Operation

Array = np.ndarray[Any, Any]


def compute(values: Array, operation: Operation, operand: int | float) -> Array:
    """The operand of a division is not 0, and that of a shift less than 64. A float makes integers floats."""
    if values.dtype.kind == "i":
        values = values.astype(np.int64 if isinstance(operand, int) else np.float64, copy=False)
    is_integer = values.dtype.kind == "i"
    with np.errstate(all="ignore"):
        if operation is Operation.MODULO:
            return np.asarray(np.fmod(values, operand))
        if operation is Operation.DIVIDE and is_integer:
            return np.asarray(np.floor_divide(values - np.fmod(values, operand), operand))
        if operation in BIT_OPERATIONS:
            values, operand = values.astype(np.int64, copy=False), int(operand)
        return np.asarray(COMPUTE[operation](values, operand))
