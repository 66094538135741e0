"""The limit on the size of an answer, and the size that rows will have once they are fetched."""

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
    """Raises ParameterInvalid if rows of several segments, not fetched yet, would make too large an answer.

    set_numbers, row_offsets: int64 (m,), the position of each row's set in `row_sets` and its row offset there.
    """
    size = 0
    for number, rows in enumerate(row_sets):
        offsets = row_offsets if len(row_sets) == 1 else row_offsets[set_numbers == number]
        if len(offsets):
            size += sum(taken_bytes(rows.column(field_id), offsets) for field_id in field_ids)
    if size > MAX_OUTPUT_BYTES:
        raise too_large(answer)
