"""How large an answer may be, and how large rows will be once they are fetched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from milvine.errors import ParameterInvalid
from milvine.model.columns import taken_bytes
from milvine.segment.rows import RowSet

Array = np.ndarray[Any, Any]
MAX_OUTPUT_BYTES = 100 << 20
"""Milvus's quotaAndLimits.limits.maxOutputSize."""


def too_large(answer: str) -> ParameterInvalid:
    """`answer`: "search" or "query"."""
    return ParameterInvalid(f"{answer} results exceed the maxOutputSize Limit {MAX_OUTPUT_BYTES}")


def check_output_size(
    answer: str, row_sets: Sequence[RowSet], set_numbers: Array, row_offsets: Array, field_ids: Sequence[int]
) -> None:
    """Raises ParameterInvalid before rows of several segments are fetched that would make too large an answer.

    set_numbers, row_offsets: int64 (m,), which of `row_sets` a row is in, and where.
    """
    size = 0
    for number, rows in enumerate(row_sets):
        offsets = row_offsets if len(row_sets) == 1 else row_offsets[set_numbers == number]
        if len(offsets):
            size += sum(taken_bytes(rows.column(field_id), offsets) for field_id in field_ids)
    if size > MAX_OUTPUT_BYTES:
        raise too_large(answer)
