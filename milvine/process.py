"""Interpreter settings of our own processes, which share it with no other code."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence


class _NoPandas:
    """Makes an import of pandas fail as if it were not installed."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(f"{name} is of no use here", name=name)


def keep_garbage() -> None:
    """Call before start-up. All that it makes stays, and looking through ten thousand collections again and again took
    more than half of their start."""
    gc.disable()


def forget_garbage() -> None:
    """Call after start-up: the collector then skips modules and tables and only walks objects of requests."""
    gc.collect()
    gc.freeze()
    gc.enable()


def keep_pandas_out() -> None:
    """Call before the first array is made. pyarrow would then import pandas, a dependency of pymilvus, which takes
    55 MB and 0.2 to 0.35 s of the first insert."""
    sys.meta_path.insert(0, _NoPandas)
