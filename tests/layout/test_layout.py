"""Imports point one way, and every setting, metric and link of the docs is right."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from milvine import config, metrics, rate_settings

ROOT = Path(__file__).resolve().parents[2]
LARGEST_FILE = 200_000
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")


def test_imports_point_one_way_and_outside_libraries_have_one_home() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([str(lint)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


def _operations() -> str:
    return (ROOT / "docs" / "operations.md").read_text()


@pytest.mark.parametrize("setting", config.SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_is_documented(setting: config.Setting) -> None:
    assert f"`{setting.key}`" in _operations()


@pytest.mark.parametrize("setting", rate_settings.RATE_SETTINGS, ids=lambda setting: setting.key)
def test_every_rate_is_written_down(setting: rate_settings.RateSetting) -> None:
    assert f"`{setting.key}`" in _operations()
    assert f"`{setting.switch}`" in _operations()


def test_settings_and_their_table_hold_the_same_names() -> None:
    assert {setting.name for setting in config.SETTINGS} == set(config.Settings.__dataclass_fields__) - {"rates"}


@pytest.mark.parametrize("name", sorted(family.name for family in metrics.registry.collect()))
def test_every_metric_is_documented(name: str) -> None:
    assert re.search(rf"\b{re.escape(name)}(_total|_bucket)?\b", _operations())


def _links(page: Path) -> list[str]:
    outside = ("http://", "https://", "mailto:", "#")
    return [link for link in _LINK.findall(page.read_text()) if not link.startswith(outside)]


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "README.md"])
def test_links_point_to_files_that_exist(name: str) -> None:
    page = ROOT / name
    links = _links(page)
    assert links, "a page without a link to the rest of the repository"
    missing = [link for link in links if not (page.parent / link.partition("#")[0]).exists()]
    assert missing == []


def test_links_in_docs_point_to_files_that_exist() -> None:
    pages = sorted((ROOT / "docs").rglob("*.md"))
    assert pages
    missing = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages
        for link in _links(page)
        if not (page.parent / link.partition("#")[0]).exists()
    ]
    assert missing == []


def test_every_module_has_a_docstring() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "milvine").rglob("*.py"))
        if not path.read_text().lstrip().startswith('"""')
    ]
    assert silent == []


def test_no_large_file_is_committed() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout")
    sizes = {name: (ROOT / name).stat().st_size for name in listed.stdout.split("\0") if (ROOT / name).is_file()}
    assert sizes
    assert {name: size for name, size in sizes.items() if size > LARGEST_FILE} == {}


def test_the_vendored_messages_are_those_of_the_installed_client() -> None:
    found = runpy.run_path(str(ROOT / "scripts" / "vendor_messages.py"))
    assert found["TARGET"].read_bytes() == found["descriptor_set"]().SerializeToString(deterministic=True)
