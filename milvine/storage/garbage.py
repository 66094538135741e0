"""Removes files that the catalog does not name: leftovers of a crash between writing files and their commit."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from milvine.storage.files import remove_tree


def remove_unnamed(directory: Path, names: Collection[str]) -> list[Path]:
    """Removes the entries of `directory` whose names are not in `names`; returns the removed ones."""
    if not directory.is_dir():
        return []
    unnamed = [path for path in directory.iterdir() if path.name not in names]
    for path in unnamed:
        remove_tree(path)
    return unnamed
