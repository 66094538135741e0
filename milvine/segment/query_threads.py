"""Threads that share the queries of one search."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_Result = TypeVar("_Result")
_THREADS = os.cpu_count() or 1
QUERIES_PER_THREAD = 8
"""With fewer queries, using another thread costs more than it saves."""
_pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="search")


def in_threads(queries: Any, function: Callable[[Any], _Result]) -> list[_Result]:
    """Results of parts of the queries, in order. Only many queries are divided."""
    parts = min(_THREADS, len(queries) // QUERIES_PER_THREAD)
    if parts < 2:
        return [function(queries)]
    ends = [len(queries) * part // parts for part in range(parts + 1)]
    return list(_pool.map(function, [queries[start:end] for start, end in itertools.pairwise(ends)]))
