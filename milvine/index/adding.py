"""Adds vectors to a faiss index in steps, so that a long build can tell how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_STEPS = 20
_STEP_ROWS = 10_000
"""Fewer rows are added in no time, and a graph is better the more rows are added together."""


class _Listener:
    """Whom builds of this process tell. A process builds one index at a time."""

    def __init__(self) -> None:
        self.on_rows: Callable[[int], None] = lambda _rows: None


_listener = _Listener()


def tell(on_rows: Callable[[int], None]) -> None:
    """From now on `on_rows` gets the number of added rows after each step."""
    _listener.on_rows = on_rows


def add_in_steps(index: Any, vectors: Any) -> None:
    """`index.add` of all vectors, an array whose first axis is the rows."""
    step = max(_STEP_ROWS, -(-len(vectors) // _STEPS))
    for start in range(0, len(vectors), step):
        index.add(vectors[start : start + step])
        _listener.on_rows(min(start + step, len(vectors)))
