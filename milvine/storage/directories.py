"""Directories whose entries survive a power loss. The front needs them too, so nothing slow is imported here."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def sync_directory(path: Path) -> None:
    """Makes creations, renames and removals in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Creates `path` and its missing parents, each durable in its parent."""
    if path.is_dir():
        return
    make_directory(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
    sync_directory(path.parent)


def entry_names(path: Path) -> list[str]:
    """The names in a directory, in any order; none if there is no directory."""
    try:
        return os.listdir(path)  # noqa: PTH208 - a start asks ten thousand directories, and paths take most of its time
    except (FileNotFoundError, NotADirectoryError):
        return []
