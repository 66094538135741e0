"""Sealed files return what was written and refuse damaged files."""

from __future__ import annotations

import os
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sealed_damage import flip_bit, truncate
from sync_sizes import sizes_at_sync

from milvine.errors import DataIntegrityError, DiskLimitExceeded
from milvine.storage import directories
from milvine.storage.directories import make_directory
from milvine.storage.files import (
    FOOTER_BYTES,
    crc32c,
    open_sealed,
    remove_tree,
    save_sealed,
    seal_written,
    walk_files,
)
from milvine.storage.garbage import remove_unnamed

PAYLOAD = bytes(range(256)) * 20


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "a.col"
    save_sealed(path, "column", 1, [PAYLOAD[:1000], memoryview(PAYLOAD)[1000:]])
    return path


def damaged(path: Path, *, resident: bool = True, kind: str = "column", version: int = 1) -> str:
    """The message of the refusal, which must name the file."""
    with pytest.raises(DataIntegrityError, match=re.escape(str(path))) as caught:
        open_sealed(path, kind, version, resident=resident)
    return caught.value.message


@given(st.lists(st.binary(max_size=3000), max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_sealed_file_returns_its_payload_and_its_size(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("sealed") / "x"
    size = save_sealed(path, "rows", 3, parts)
    assert path.stat().st_size == size
    for resident in (False, True):
        assert bytes(open_sealed(path, "rows", 3, resident=resident).payload) == b"".join(parts)


def test_the_payload_is_read_in_place_and_read_only(sealed: Path) -> None:
    mapped = open_sealed(sealed, "column", 1, resident=True)
    assert mapped.payload_bytes == len(PAYLOAD)
    assert mapped.payload.readonly
    array = np.frombuffer(mapped.payload, np.uint8)
    del mapped
    sealed.unlink()
    assert array.tobytes() == PAYLOAD, "the mapping must outlive the name and the MappedFile"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "missing" in damaged(tmp_path / "gone.col")


@pytest.mark.parametrize("resident", [False, True])
def test_every_truncation_is_refused_even_unread(sealed: Path, tmp_path: Path, resident: bool) -> None:
    whole = sealed.read_bytes()
    sizes = {0, 1, FOOTER_BYTES - 1, FOOTER_BYTES, FOOTER_BYTES + 1, len(PAYLOAD) // 2, len(PAYLOAD)}
    sizes |= set(range(len(whole) - FOOTER_BYTES - 2, len(whole)))
    for size in sizes:
        truncate(sealed, size)
        damaged(sealed, resident=resident)
        sealed.write_bytes(whole)
    open_sealed(sealed, "column", 1, resident=resident)


def test_a_file_with_bytes_after_its_footer_is_refused(sealed: Path) -> None:
    sealed.write_bytes(sealed.read_bytes() + b"\0")
    damaged(sealed, resident=False)


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_of_the_footer_is_found_without_reading_the_payload(sealed: Path, bit: int) -> None:
    for offset in range(-FOOTER_BYTES, 0):
        flip_bit(sealed, offset, bit)
        damaged(sealed, resident=False)
        flip_bit(sealed, offset, bit)
    open_sealed(sealed, "column", 1, resident=True)


@given(st.integers(0, len(PAYLOAD) - 1), st.integers(0, 7))
@settings(max_examples=80, deadline=None)
def test_a_flipped_bit_of_the_payload_is_found_when_it_becomes_resident(
    tmp_path_factory: pytest.TempPathFactory, offset: int, bit: int
) -> None:
    path = tmp_path_factory.mktemp("sealed") / "x.col"
    save_sealed(path, "column", 1, [PAYLOAD])
    flip_bit(path, offset, bit)
    assert "checksum" in damaged(path)
    open_sealed(path, "column", 1, resident=False)  # by design: full checksums are not read for a mapped file


def test_a_file_of_another_kind_is_refused(sealed: Path) -> None:
    assert "rows" in damaged(sealed, kind="rows", resident=False)


@pytest.mark.parametrize("version", [0, 2, 2**32 - 1])
def test_an_unknown_format_version_is_refused_by_its_number(tmp_path: Path, version: int) -> None:
    path = tmp_path / "future.col"
    save_sealed(path, "column", version, [PAYLOAD])
    assert f"version {version}" in damaged(path)


def test_the_checksum_does_not_depend_on_how_the_payload_is_cut() -> None:
    data = np.random.default_rng(1).bytes((4 << 20) * 2 + 77)
    whole = crc32c([data])
    assert crc32c([data[:5], data[5 : 4 << 20], data[4 << 20 :]]) == whole
    assert crc32c([data[100:]], crc32c([data[:100]])) == whole
    assert crc32c([b"123456789"]) == 0xE3069283, "CRC-32C's check value"


def test_a_payload_that_a_library_wrote_is_sealed_as_if_we_had_written_it(sealed: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.col"
    path.write_bytes(PAYLOAD)
    assert seal_written(path, "column", 1) == sealed.stat().st_size
    assert path.read_bytes() == sealed.read_bytes()


def test_a_sealed_file_is_synced_with_all_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = sizes_at_sync(monkeypatch, "fsync")
    size = save_sealed(tmp_path / "x", "column", 1, [PAYLOAD])
    assert synced == [size]
    (tmp_path / "y").write_bytes(PAYLOAD)
    assert seal_written(tmp_path / "y", "column", 1) == size
    assert synced == [size, size]


def test_a_full_disk_is_reported_and_leaves_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "x"
    with pytest.raises(DiskLimitExceeded, match=re.escape(str(path))):
        save_sealed(path, "column", 1, [PAYLOAD])
    assert not path.exists()


def test_sealed_files_are_never_overwritten_nor_removed_by_a_second_save(sealed: Path) -> None:
    before = sealed.read_bytes()
    with pytest.raises((OSError, DiskLimitExceeded)):
        save_sealed(sealed, "column", 1, [b"other"])
    assert sealed.exists(), "the refused save has removed the file that was there"
    assert sealed.read_bytes() == before


def test_each_new_directory_is_synced_in_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(directories, "sync_directory", synced.append)
    make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert synced == [tmp_path, tmp_path / "a"]
    make_directory(tmp_path / "a" / "b")
    assert len(synced) == 2


def test_trees_are_walked_and_removed_whole(tmp_path: Path) -> None:
    root = tmp_path / "root"
    make_directory(root / "a" / "b")
    for name in ("x", "a/y", "a/b/z"):
        (root / name).write_bytes(b"1")
    assert {p.relative_to(root).as_posix() for p in walk_files(root)} == {"x", "a/y", "a/b/z"}
    remove_tree(root)
    assert not root.exists()
    remove_tree(root)
    assert list(walk_files(root)) == []


def test_threads_that_remove_the_same_tree_do_not_fail(tmp_path: Path) -> None:
    for number in range(20):
        root = tmp_path / str(number)
        for name in ("a", "b/c", "b/d"):
            make_directory(root / name)
            for file in range(5):
                (root / name / str(file)).touch()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(remove_tree, [root] * 4))
        assert not root.exists()


def test_files_that_the_catalog_does_not_name_are_garbage(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_bytes(b"1")
    (tmp_path / "3.delta").write_bytes(b"1")
    (tmp_path / "4.delta").write_bytes(b"1")
    removed = remove_unnamed(tmp_path, {"1", "3.delta", "5"})
    assert sorted(p.name for p in removed) == ["2", "4.delta"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "3.delta"]
    assert (tmp_path / "1" / "f").exists()
    assert remove_unnamed(tmp_path / "gone", {"1"}) == []


def test_the_footer_is_the_documented_layout(sealed: Path) -> None:
    raw = sealed.read_bytes()
    kind, version, crc, length, footer_crc, magic = struct.unpack("<8sIIQI4s", raw[-FOOTER_BYTES:])
    expected: tuple[Any, ...] = (b"column\0\0", 1, crc32c([PAYLOAD]), len(PAYLOAD), b"MLVN")
    assert (kind, version, crc, length, magic) == expected
    assert footer_crc == crc32c([raw[-FOOTER_BYTES:-8]])
    assert raw[:length] == PAYLOAD
