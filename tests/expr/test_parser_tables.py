"""The tables of the filters' parser are kept beside compiled modules, so that a start need not make them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MAKES_NONE = "import lark.lark; lark.lark.load_grammar = None; "


@pytest.mark.parametrize("may_write", [True, False])
def test_tables_that_are_there_are_used(tmp_path: Path, may_write: bool) -> None:
    def start(before: str, *options: str) -> int:
        command = [
            sys.executable,
            *options,
            "-X",
            f"pycache_prefix={tmp_path}",
            "-c",
            f"{before}import milvine.expr.parser",
        ]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert start(MAKES_NONE) == 1, "there are none yet"
    assert start("") == 0
    assert start(MAKES_NONE, *([] if may_write else ["-B"])) == 0


def test_without_a_place_tables_are_made_at_each_start(tmp_path: Path) -> None:
    command = [sys.executable, "-B", "-X", f"pycache_prefix={tmp_path}", "-c", "import milvine.expr.parser"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert list(tmp_path.iterdir()) == []
