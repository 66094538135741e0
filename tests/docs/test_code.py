"""The code in the pages of the docs runs, in order, against a server; pages without a client's address start their own.

A block after `<!-- not run: why -->` is left out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Server

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(
    r"(?P<skip><!-- not run: [^\n]+ -->\n)?^```(?P<language>python|sh)\n(?P<code>.*?)^```$", re.M | re.S
)
_FIRST = ("docs/quick-start.md", "docs/loading.md")
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    if any(not block["skip"] for block in _BLOCK.finditer(path.read_text()))
)


def test_the_pages_have_code() -> None:
    assert set(_FIRST) < set(PAGES)


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=() if page in _FIRST else pytest.mark.nightly) for page in PAGES]
)
def test_the_code_of_the_page_runs(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    client = server.client()
    before = set(client.list_collections())
    text = (ROOT / page).read_text()
    names: dict[str, object] = {"__name__": page}
    try:
        for block in _BLOCK.finditer(text):
            if block["skip"]:
                continue
            code = block["code"].replace("localhost:19530", server.address)
            if block["language"] == "python":
                line = text[: block.start("code")].count("\n")
                exec(compile("\n" * line + code, page, "exec"), names)
            else:
                done = subprocess.run(["bash", "-euc", code], capture_output=True, text=True, check=False, timeout=60)
                assert done.returncode == 0, f"{code}{done.stdout}{done.stderr}"
                assert '"code":' not in done.stdout or '"code":0' in done.stdout, done.stdout
    finally:
        for name in set(client.list_collections()) - before:
            client.drop_collection(name)
        client.close()
