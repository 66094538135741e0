"""Removes files that the catalog does not name: leftovers of a crash between writing files and their commit."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from milvine.storage.directories import entry_names
from milvine.storage.files import remove_tree


def remove_unnamed(directory: Path, names: Collection[str]) -> list[Path]:
    """Removes the entries of `directory` whose names are not in `names`; returns the removed ones."""
    unnamed = [directory / name for name in entry_names(directory) if name not in names]
    for path in unnamed:
        remove_tree(path)
    return unnamed
