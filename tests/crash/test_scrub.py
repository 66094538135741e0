"""The slow scrub reports a flipped bit in a sealed file and changes nothing else."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damage import AS_IT_LIES, GRAPH, GRAPH_ROWS, OTHER, SMALL, SPARSE, filled_copy, one_file, remove, store_as_it_is

from milvine.errors import DataIntegrityError
from milvine.storage.files import read_and_verify, save_sealed

WAIT_SECONDS = 90.0


def get(server: Any, path: str) -> tuple[int, str]:
    with urllib.request.urlopen(f"{server.uri}{path}", timeout=10) as answer:
        return answer.status, answer.read().decode()


def damaged(server: Any) -> int:
    lines = get(server, "/metrics")[1].splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith("milvine_damaged_files "))
    return int(float(value))


def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


def flip_in_place(path: Path) -> None:
    """Flips a bit without truncating the file, since the file is mapped."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 0x10]))
    store_as_it_is(path)


def test_a_flipped_bit_is_logged_and_counted_while_reads_continue(
    new_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    data_dir = filled_copy(new_server, tmp_path_factory, tmp_path)
    server = new_server(data_dir=data_dir, env={**AS_IT_LIES, "MILVINE_SCRUB_INTERVAL_SECONDS": "0.1"})
    client = server.client()
    for name in (SMALL, GRAPH, OTHER):
        client.load_collection(name)
    files = [
        one_file(data_dir, OTHER, SPARSE),
        one_file(data_dir, GRAPH, "*.index"),
        one_file(data_dir, SMALL, "*.delta"),
    ]
    assert damaged(server) == 0
    for count, path in enumerate(files, 1):
        flip_in_place(path)
        until(lambda c=count: damaged(server) == c, str(path))  # type: ignore[misc]
        lines = [line for line in server.log.splitlines() if "a sealed file is damaged: " in line and str(path) in line]
        assert len(lines) == 1
    assert get(server, "/healthz") == (200, "OK")
    assert client.query(GRAPH, filter="", output_fields=["count(*)"])[0]["count(*)"] == GRAPH_ROWS
    flip_in_place(files[0])
    until(lambda: damaged(server) == 2, "a restored file is no damage")
    client.drop_collection(GRAPH)
    until(lambda: damaged(server) == 1, "a removed file is no damage")
    remove(files[2])
    client.drop_collection(SMALL)
    until(lambda: damaged(server) == 0, "a file of a dropped collection is no damage")
    client.close()


def test_slow_reading_finds_the_same_damage_as_fast_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.col"
    size = save_sealed(path, "column", 1, [bytes(range(256)) * 4000])
    read: list[int] = []
    read_and_verify(path, read.append)
    assert sum(read) == 256 * 4000 and max(read) <= 1 << 18, "small reads"
    whole = path.read_bytes()
    for offset in (0, 600_000, size - 33, size - 32, size - 10, size - 1):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
        with pytest.raises(DataIntegrityError, match=str(path)):
            read_and_verify(path, read.append)
    for length in (0, 20, size - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DataIntegrityError, match=str(path)):
            read_and_verify(path, read.append)
    path.unlink()
    with pytest.raises(DataIntegrityError, match="is missing"):
        read_and_verify(path, read.append)
    empty = tmp_path / "empty.col"
    save_sealed(empty, "column", 1, [])
    read_and_verify(empty, read.append)
