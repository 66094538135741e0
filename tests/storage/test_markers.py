"""The files that tell where parts of a data directory are."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvine.errors import WriteFailed
from milvine.storage.markers import Marker, read_marker, write_marker


def test_a_marker_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none" / "catalog.json"
    with pytest.raises(WriteFailed, match=f"cannot write {path}: No such file or directory"):
        write_marker(path, Marker("postgresql://h/d", "owner", True, (1, 2)))


def test_a_marker_comes_back(tmp_path: Path) -> None:
    marker = Marker("postgresql://h/d", "owner", True, (1, 2))
    write_marker(tmp_path / "catalog.json", marker)
    assert read_marker(tmp_path / "catalog.json") == marker
    assert read_marker(tmp_path / "store.json") is None
