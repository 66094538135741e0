"""`milvine check` names every damaged file and no other."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash_load import row_of
from damage import (
    BITS,
    GRAPH,
    OTHER,
    SMALL,
    SPARSE,
    TERMS,
    TEXT,
    collection_id,
    cut,
    damaged_log,
    filled_copy,
    flip,
    flip_footer,
    flip_header,
    flip_middle,
    flip_record,
    log_files,
    one_file,
    remove,
    shown,
    store_as_it_is,
)
from directory_check import damages
from pymilvus import MilvusClient

DAMAGES = [flip_middle, flip_footer, cut, remove]


@pytest.fixture
def data_dir(new_server: Any, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    return filled_copy(new_server, tmp_path_factory, tmp_path)


def milvine_check(data_dir: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "milvine", "check", str(data_dir)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def noted(data_dir: Path) -> list[str]:
    """The local files that an undamaged directory's leftovers are in."""
    done = milvine_check(data_dir)
    assert done.returncode == 0, done.stdout
    notes = [line.removeprefix("note: ") for line in done.stdout.splitlines()[:-1] if line.startswith("note: ")]
    assert len(notes) == len(done.stdout.splitlines()) - 1
    return [note.split()[0] for note in notes if note.startswith(str(data_dir))]


def contents(data_dir: Path) -> dict[str, bytes]:
    """All files except the lock and SQLite's extra files while the database is open."""
    files = [p for p in data_dir.rglob("*") if p.is_file() and p.name not in ("LOCK", "catalog.sqlite-shm")]
    return {str(p.relative_to(data_dir)): p.read_bytes() for p in files if p.stat().st_size}


def test_an_undamaged_directory_is_reported_whole_and_left_unchanged(data_dir: Path) -> None:
    before = contents(data_dir)
    done = milvine_check(data_dir)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"{data_dir} is whole: \d+ files, 3 collections, 2000 rows\n", done.stdout), done.stdout
    assert contents(data_dir) == before


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        (SMALL, "101.col"),
        (SMALL, "102.col"),
        (SMALL, "rows.seg"),
        (SMALL, "*.delta"),
        (GRAPH, "101.col"),
        (GRAPH, BITS),
        (GRAPH, SPARSE),
        (GRAPH, TEXT),
        (GRAPH, TERMS),
        (GRAPH, "*.index"),
    ],
)
def test_only_the_damaged_file_is_named(
    data_dir: Path, name: str, pattern: str, damage: Callable[[Path], None]
) -> None:
    path = one_file(data_dir, name, pattern)
    damage(path)
    name = path.relative_to(data_dir).as_posix()
    found = damages(data_dir)
    assert found and all(name in text for text in found), "neither the file nor its object"
    assert shown(path) in found[-1]


def test_damage_in_the_index_of_any_kind_is_named(data_dir: Path) -> None:
    indexes = sorted((data_dir / "segments" / str(collection_id(data_dir, GRAPH))).rglob("*.index"))
    assert len(indexes) == 4, "a graph, inverted lists of vectors and of terms, and the words of texts"
    for path in indexes:
        flip_middle(path)
        assert len(found := damages(data_dir)) == 1 and str(path) in found[0]
        flip_middle(path)
    assert damages(data_dir) == []


def test_every_flipped_bit_of_a_small_file_is_found(data_dir: Path) -> None:
    path = one_file(data_dir, SMALL, "*.delta")
    for offset in range(0, path.stat().st_size, 97):
        flip(path, offset)
        assert [text for text in damages(data_dir) if str(path) in text], offset
        flip(path, offset)
    assert damages(data_dir) == []


@pytest.mark.parametrize("damage", [flip_record, flip_header, remove], ids=lambda f: f.__name__)
def test_a_damaged_log_is_named(data_dir: Path, damage: Callable[[Path], None]) -> None:
    path = damaged_log(data_dir, SMALL, damage)
    damage(path)
    done = milvine_check(data_dir)
    assert done.returncode == 1
    assert shown(path) in done.stdout
    assert "has 1 damaged file:" in done.stdout


def test_several_damaged_files_are_all_named(data_dir: Path) -> None:
    paths = [
        one_file(data_dir, SMALL, "101.col"),
        one_file(data_dir, GRAPH, "*.index"),
        log_files(data_dir, OTHER)[-1],
    ]
    for path, damage in zip(paths, [flip_middle, cut, flip_header], strict=True):
        damage(path)
    found = damages(data_dir)
    assert all(any(shown(path) in text for text in found) for path in paths)
    names = [path.relative_to(data_dir).as_posix() for path in paths[:2]] + [shown(paths[2])]
    assert all(any(name in text for name in names) for text in found)


@pytest.mark.local_catalog("it changes the file of the catalog")
def test_a_damaged_catalog_is_named_and_the_other_files_are_still_verified(data_dir: Path) -> None:
    path = data_dir / "catalog.sqlite"
    column = one_file(data_dir, SMALL, "101.col")
    flip_middle(column)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    cut(path)
    found = damages(data_dir)
    assert str(path) in found[0]
    assert [text for text in found[1:] if str(column) in text]


@pytest.mark.parametrize("pattern", ["101.col", BITS, SPARSE])
def test_files_whose_rows_differ_from_the_catalog_are_named(data_dir: Path, pattern: str) -> None:
    """Undamaged files in the wrong place."""
    first = one_file(data_dir, SMALL, pattern)
    shutil.copy(one_file(data_dir, OTHER, pattern), first)
    assert [text for text in damages(data_dir) if str(first) in text]


@pytest.mark.local_catalog("it changes the file of the catalog")
def test_rows_in_two_segments_are_named(data_dir: Path) -> None:
    meta = one_file(data_dir, SMALL, "rows.seg").parent
    twin = meta.with_name(str(int(meta.name) + 1))
    shutil.copytree(meta, twin)
    for path in twin.iterdir():
        store_as_it_is(path)
    with sqlite3.connect(data_dir / "catalog.sqlite") as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(segments)") if row[1] != "segment_id"]
        listed = ", ".join(f'"{c}"' for c in columns)
        connection.execute(
            f"INSERT INTO segments (segment_id, {listed}) SELECT {twin.name}, {listed} "
            f"FROM segments WHERE segment_id = {meta.name}"
        )
    connection.close()
    assert damages(data_dir) == [
        f"segments {meta.name} and {twin.name} of collection {SMALL} both hold 300 rows, such as key 0"
    ]


@pytest.mark.local_log("no object is there in part")
def test_the_torn_tail_of_a_log_is_noted_but_not_damage(data_dir: Path) -> None:
    log = log_files(data_dir, SMALL)[-1]
    log.write_bytes(log.read_bytes()[:-9])
    assert noted(data_dir) == [str(log)]


def test_leftovers_of_a_crash_are_noted_but_not_damage(data_dir: Path) -> None:
    left = [data_dir / "segments" / str(collection_id(data_dir, SMALL)) / "99" / "rows.seg"]
    left.append(data_dir / "wal" / "12345" / "0000000001.wal")
    for path in left:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
    assert noted(data_dir) == [str(path) for path in left]


def test_a_directory_held_by_a_server_and_a_missing_one_are_refused(new_server: Any, tmp_path: Path) -> None:
    server = new_server()
    held = milvine_check(server.data_dir)
    assert held.returncode == 1
    assert held.stderr == (
        f"milvine: the data directory {server.data_dir} is in use by process {server.pid}; a running server is checked "
        "by its address, http://HOST:PORT\n"
    )
    server.kill()
    assert milvine_check(server.data_dir).returncode == 0, "a crash is reported as damage"
    gone = milvine_check(tmp_path / "gone")
    assert (gone.returncode, gone.stderr) == (1, f"milvine: {tmp_path / 'gone'} is not a directory\n")


def test_a_directory_is_whole_after_a_crash_under_writes(new_server: Any, data_dir: Path) -> None:
    server = new_server(data_dir=data_dir)
    client = MilvusClient(uri=server.uri)
    for start in range(5000, 5100, 10):
        client.insert(SMALL, [row_of(k, "more") for k in range(start, start + 10)])
    client.delete(SMALL, ids=[5000])
    client.close()
    server.kill()
    assert damages(data_dir) == []
