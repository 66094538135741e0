"""What `milvine check` finds in a data directory, wherever its segments and logs are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from milvine.config import load_settings
from milvine.datanode.check import Check, Finding
from milvine.storage.claims import objects_of


def damages(data_dir: Path) -> list[str]:
    return [one.text for one in _findings(data_dir) if one.is_damage]


def findings(data_dir: Path) -> list[str]:
    """Damage and leftovers. Objects that go after a while are none."""
    return [one.text for one in _findings(data_dir) if not one.text.endswith("goes after a while")]


def _findings(data_dir: Path) -> Iterator[Finding]:
    """With MILVINE_TEST_STORE also those in the objects of the directory."""
    settings = load_settings({"data_dir": str(data_dir)}, os.environ, None)
    return Check(data_dir, objects_of(data_dir, settings)).findings()
