"""How many rows and vectors a read may request."""

from __future__ import annotations

from typing import Any

import numpy as np

from milvine.errors import ParameterInvalid
from milvine.model.collections import Collection
from milvine.model.properties import is_of_large_topk

Array = np.ndarray[Any, Any]
MAX_TOPK = 16384
LARGE_TOPK = 1_000_000
MAX_NQ = 16384


def most_rows(collection: Collection) -> int:
    """How many rows may be requested, including those skipped by an offset."""
    return LARGE_TOPK if is_of_large_topk(collection.properties) else MAX_TOPK


def check_window(limit: int, offset: int, nq: int, most: int) -> None:
    in_range = f"it should be in range [1, {most}], but got"
    if not 1 <= limit <= most:
        raise ParameterInvalid(f"topk [{limit}] is invalid, {in_range} {limit}")
    if not 0 <= offset <= most:
        raise ParameterInvalid(f"offset [{offset}] is invalid, {in_range} {offset}")
    if limit + offset > most:
        raise ParameterInvalid(f"offset+limit [{limit + offset}] is invalid, {in_range} {limit + offset}")
    check_nq(nq)


def check_nq(nq: int) -> None:
    if not 1 <= nq <= MAX_NQ:
        raise ParameterInvalid(
            f"nq [{nq}] is invalid, nq (number of search vector per search request) "
            f"should be in range [1, {MAX_NQ}], but got {nq}"
        )


def check_result_window(limit: int, offset: int, most: int) -> None:
    """The window of a query."""
    window = "invalid max query result window"
    if offset < 0:
        raise ParameterInvalid(f"{window}, offset [{offset}] is invalid, should be gte than 0")
    if limit <= 0:
        raise ParameterInvalid(f"{window}, limit [{limit}] is invalid, should be greater than 0")
    if limit + offset > most:
        raise ParameterInvalid(f"{window}, (offset+limit) should be in range [1, {most}], but got {limit + offset}")


def check_round_decimal(given: object) -> None:
    """`given`: a number, or the text that is none."""
    if given != -1 and not (isinstance(given, int) and 0 <= given <= 6):
        raise ParameterInvalid(f"round_decimal [{given}] is invalid, should be -1 or an integer in range [0, 6]")


def beyond(counts: Array, offset: int) -> tuple[Array, Array]:
    """Positions of the hits that follow the first `offset` of each query, and their number for each query. counts:
    int64 (nq,), the number of all hits."""
    rank = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.flatnonzero(rank >= offset), np.maximum(counts - offset, 0)
