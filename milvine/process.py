"""Interpreter settings of our own processes, which share it with no other code."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_LOOK_SECONDS = 0.5


class _NoPandas:
    """Makes an import of pandas fail as if it were not installed."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(f"{name} is of no use here", name=name)


def end_with_parent(parent: int) -> None:
    """A child calls it with the id of its parent, which may have ended already. Work in progress is dropped."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=look, name="parent", daemon=True).start()


@contextmanager
def imports_kept() -> Iterator[None]:
    """For imports. All their 200,000 objects stay, and looking through them again and again took a sixth of a start."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def keep_garbage() -> None:
    """Call before start-up. All that it makes stays, and looking through ten thousand collections again and again took
    more than half of their start. What there is already, mostly modules, is never looked at again."""
    gc.disable()
    gc.freeze()


def forget_garbage() -> None:
    """Call after start-up: the collector then skips modules and tables and only walks objects of requests."""
    gc.collect()
    gc.freeze()
    gc.enable()


def keep_pandas_out() -> None:
    """Call before the first array is made. pyarrow would then import pandas, a dependency of pymilvus, which takes
    55 MB and 0.2 to 0.35 s of the first insert."""
    sys.meta_path.insert(0, _NoPandas)
