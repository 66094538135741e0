"""The data directory that damage is done to."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damage import fill
from pymilvus import MilvusClient

_template: dict[str, Path] = {}


@pytest.fixture
def data_dir(new_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A copy of a stopped server's directory; made once."""
    if not _template:
        server = new_server()
        client = MilvusClient(uri=server.uri)
        fill(client)
        client.close()
        server.stop()
        kept = tmp_path_factory.mktemp("template") / "data"
        shutil.copytree(server.data_dir, kept)
        _template["data"] = kept
    copy = tmp_path / "copy"
    shutil.copytree(_template["data"], copy)
    return copy
