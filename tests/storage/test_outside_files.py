"""Files from outside the data directory: below their directory, whole, bounded, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from milvine.errors import IoFailed, ParameterInvalid
from milvine.storage.outside_files import FilesBelow

MOST_BYTES = 10


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "words"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "stop words.txt").write_bytes(b"a\nb\n")
    (tmp_path / "secret.txt").write_bytes(b"secret")
    return root


def test_a_file_below_the_directory_is_read(root: Path) -> None:
    assert FilesBelow(root).read("deep/stop words.txt", MOST_BYTES) == b"a\nb\n"


def test_a_link_may_point_to_another_file_below_the_directory(root: Path) -> None:
    (root / "link").symlink_to("deep/stop words.txt")
    (root / "deeper").symlink_to(root / "deep")
    assert FilesBelow(root).read("link", MOST_BYTES) == b"a\nb\n"
    assert FilesBelow(root).read("deeper/stop words.txt", MOST_BYTES) == b"a\nb\n"


def test_a_link_out_of_the_directory_leads_nowhere(root: Path) -> None:
    (root / "link").symlink_to(root.parent / "secret.txt")
    (root / "up").symlink_to("..")
    assert FilesBelow(root).read("link", MOST_BYTES) is None
    assert FilesBelow(root).read("up/secret.txt", MOST_BYTES) is None


def test_a_file_that_becomes_a_link_while_it_is_opened_is_not_followed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = root / "deep" / "stop words.txt"
    open_it = os.open

    def swapped(path: str | Path, *arguments: int, **more: int) -> int:
        if path == file.name:
            file.unlink()
            file.symlink_to(root.parent / "secret.txt")
        return open_it(path, *arguments, **more)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(IoFailed):
        FilesBelow(root).read("deep/stop words.txt", MOST_BYTES)


@pytest.mark.parametrize("path", ["../secret.txt", "deep/../../secret.txt", "/etc/passwd", "a\0b"])
def test_a_path_that_goes_up_or_begins_at_the_root_is_refused(root: Path, path: str) -> None:
    with pytest.raises(IoFailed, match="relative and without"):
        FilesBelow(root).read(path, MOST_BYTES)


def test_what_is_no_regular_file_is_not_there(root: Path) -> None:
    os.mkfifo(root / "pipe")
    for path in ("deep", "pipe", "none.txt", "deep/stop words.txt/x", "", "."):
        assert FilesBelow(root).read(path, MOST_BYTES) is None
    assert FilesBelow(root / "none").read("a", MOST_BYTES) is None


def test_a_file_above_the_limit_is_refused_with_its_size(root: Path) -> None:
    (root / "full").write_bytes(b"x" * MOST_BYTES)
    (root / "large").write_bytes(b"x" * (MOST_BYTES + 5))
    assert FilesBelow(root).read("full", MOST_BYTES) == b"x" * MOST_BYTES
    with pytest.raises(ParameterInvalid, match="file large has 15 bytes, more than 10"):
        FilesBelow(root).read("large", MOST_BYTES)
