"""The page of what is served is the one that the code writes."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_compatibility_page_is_current() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "compatibility.py"))
    current = (ROOT / "docs" / "compatibility.md").read_text()
    assert current == script["page"](), "run: .venv/bin/python scripts/compatibility.py"
