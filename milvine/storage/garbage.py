"""Removes what the catalog does not name: leftovers of a crash between writing files and committing them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from milvine.storage.files import remove_tree


def remove_unnamed(directory: Path, names: Collection[str]) -> list[Path]:
    """Remove every entry of `directory` whose name is not in `names`; returns what was removed."""
    if not directory.is_dir():
        return []
    unnamed = [path for path in directory.iterdir() if path.name not in names]
    for path in unnamed:
        remove_tree(path)
    return unnamed
