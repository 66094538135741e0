"""A data directory with every kind of file, and ways to damage them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from crash_load import KINDS, create, row_of
from pymilvus import MilvusClient

from milvine.catalog.opening import read_catalog_of
from milvine.model.collections import Collection

SMALL, GRAPH, OTHER = "small", "graph", "other"
BITS, SPARSE, TEXT, TERMS = "103.col", "104.col", "105.col", "106.col"
GRAPH_ROWS = 1400
"""So many that three quarters of them, those with a sparse vector, are worth an index."""
AS_IT_LIES = {"MILVINE_COMMON_RETENTIONDURATION": "86400"}
"""A server's environment under which nothing of the directory is compacted, however old it is by then."""
_template: dict[str, Path] = {}


def filled_copy(new_server: Callable[..., Any], template: pytest.TempPathFactory, directory: Path) -> Path:
    """A copy of a stopped server's directory; made once."""
    if not _template:
        server = new_server(env=AS_IT_LIES)
        client = MilvusClient(uri=server.uri)
        fill(client)
        client.close()
        server.stop()
        kept = template.mktemp("template") / "data"
        shutil.copytree(server.data_dir, kept)
        _template["data"] = kept
    copy = directory / "copy"
    shutil.copytree(_template["data"], copy)
    return copy


def fill(client: MilvusClient) -> None:
    """`small`: sealed rows, a delta, and a log with rows; `graph`: an index; `other`: a bystander with both."""
    create(client, SMALL, "FLAT")
    client.insert(SMALL, [row_of(k, "sealed") for k in range(300)])
    client.delete(SMALL, ids=list(range(50)))
    client.flush(SMALL)
    client.delete(SMALL, ids=list(range(50, 100)))
    client.flush(SMALL)
    for start in range(1000, 1100, 20):
        client.insert(SMALL, [row_of(k, "log") for k in range(start, start + 20)])
    create(client, GRAPH, "HNSW")
    client.insert(GRAPH, [row_of(k, "graph") for k in range(GRAPH_ROWS)])
    client.flush(GRAPH)
    create(client, OTHER, "FLAT")
    client.insert(OTHER, [row_of(k, "other") for k in range(100)])
    client.flush(OTHER)
    client.insert(OTHER, [row_of(k, "other") for k in range(100, 200)])
    deadline = time.monotonic() + 90
    names = ["vec", "terms", *(kind.name for kind in KINDS)]
    for name, index in product((SMALL, GRAPH, OTHER), names):  # the next start must have no builds left
        while (found := client.describe_index(name, index))["indexed_rows"] < found["total_rows"]:
            assert time.monotonic() < deadline, "the index was never built"
            time.sleep(0.05)


def collection_of(data_dir: Path, name: str) -> Collection:
    return next(one for one in read_catalog_of(data_dir).collections.values() if one.name == name)


def collection_id(data_dir: Path, name: str) -> int:
    return collection_of(data_dir, name).collection_id


def one_file(data_dir: Path, name: str, pattern: str) -> Path:
    """The largest file of a collection that fits the pattern."""
    found = (data_dir / "segments" / str(collection_of(data_dir, name).collection_id)).rglob(pattern)
    return max(found, key=lambda path: path.stat().st_size)


def log_files(data_dir: Path, name: str) -> list[Path]:
    """The files of a log in order or, with MILVINE_TEST_LOG, those of the S3 server for its objects from the checkpoint
    on."""
    collection = collection_of(data_dir, name)
    if os.environ.get("MILVINE_TEST_LOG"):
        import stored_directories

        objects = stored_directories.log_directory(data_dir) / str(collection.collection_id)
        return sorted(path for path in objects.iterdir() if int(path.name) >= collection.checkpoint_file)
    return sorted((data_dir / "wal" / str(collection.collection_id)).glob("*.wal"))


def damaged_log(data_dir: Path, name: str, damage: Callable[[Path], None]) -> Path:
    """Where the damage would be noticed: nothing tells of an object that was the last one."""
    return log_files(data_dir, name)[0 if damage is remove else -1]


def shown(path: Path) -> str:
    """How messages name a file, or its object if it is in the store alone."""
    if not (kind := os.environ.get("MILVINE_TEST_STORE")):
        return str(path)
    import stored_directories

    return stored_directories.shown(path, kind)


def write(path: Path, content: bytes | bytearray) -> None:
    """With MILVINE_TEST_STORE, damage is of the copy and of the object: a damaged copy alone is fetched again."""
    path.write_bytes(content)
    store_as_it_is(path)


def remove(path: Path) -> None:
    path.unlink()
    store_as_it_is(path)


def store_as_it_is(path: Path) -> None:
    if kind := os.environ.get("MILVINE_TEST_STORE"):
        import stored_directories

        stored_directories.store_as_it_is(path, kind)


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    write(path, data)


def cut(path: Path) -> None:
    write(path, path.read_bytes()[: path.stat().st_size // 2])


def flip_middle(path: Path) -> None:
    flip(path, path.stat().st_size // 2)


def flip_footer(path: Path) -> None:
    flip(path, path.stat().st_size - 20)


def flip_record(path: Path) -> None:
    flip(path, path.read_bytes().index(b"REC\0", 100 if path.suffix == ".wal" else 0) + 60)


def flip_header(path: Path) -> None:
    flip(path, 8)


def zero_start(path: Path) -> None:
    """Leaves size and footer as they are."""
    data = bytearray(path.read_bytes())
    data[:400] = bytes(400)
    write(path, data)
