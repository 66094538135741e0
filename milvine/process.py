"""What the processes of ours, and only they, do to the interpreter that they have for themselves."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence


class _NoPandas:
    """Lets an import of pandas fail as if it were not installed."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(f"{name} is of no use here", name=name)


def forget_garbage() -> None:
    """Call once all is built that stays: the collector then walks what requests made, not the modules and tables."""
    gc.collect()
    gc.freeze()


def keep_pandas_out() -> None:
    """Call before the first array is made: pyarrow would then look for pandas, which pymilvus brings along, and that
    import is 55 MB and 0.2 to 0.35 s inside somebody's first insert."""
    sys.meta_path.insert(0, _NoPandas)
