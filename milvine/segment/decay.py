"""Factors that fall with the distance of a value from an origin."""

from __future__ import annotations

from enum import StrEnum
from math import log
from typing import Any

import numpy as np

from milvine.model.records import record

Array = np.ndarray[Any, Any]


class Curve(StrEnum):
    """How a factor falls with the distance from the origin."""

    GAUSS = "gauss"
    EXP = "exp"
    LINEAR = "linear"


@record
class Decay:
    """A factor from a value: 1 up to `offset` from `origin`, and `decay` at `scale` beyond that. A linear factor never
    falls below `decay`."""

    curve: Curve
    origin: float
    scale: float
    offset: float
    decay: float

    def factors(self, values: Array) -> Array:
        """float32 (n,). values: float64 (n,)."""
        far = np.maximum(0, np.abs(values - self.origin) - self.offset)
        if self.curve is Curve.GAUSS:
            factors = np.exp(far**2 / (self.scale**2 / log(self.decay)))
        elif self.curve is Curve.EXP:
            factors = np.exp(far * (log(self.decay) / self.scale))
        else:
            factors = np.maximum(self.decay, 1 - far * ((1 - self.decay) / self.scale))
        return factors.astype(np.float32)
