"""Files that tell where parts of a data directory are, if they are elsewhere: an object store, a catalog's database."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path

import orjson

from milvine.errors import DataIntegrityError, write_failure
from milvine.model.records import record
from milvine.storage.directories import sync_directory


@record
class Marker:
    """`owner` names the directory there, and is in no other place. `is_claimed`: it was found there at least once.
    `epochs`: those that a catalog may have after the last start here, two if that was cut short; empty: any."""

    uri: str
    owner: str
    is_claimed: bool
    epochs: tuple[int, ...] = ()


def read_marker(path: Path) -> Marker | None:
    """None without such a file. Raises DataIntegrityError."""
    try:
        found = Marker(**orjson.loads(path.read_bytes()))
        return replace(found, epochs=tuple(found.epochs))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise DataIntegrityError(f"{path} is damaged") from error


def write_marker(path: Path, marker: Marker) -> None:
    """Replaces the file, durably. Raises DiskLimitExceeded, WriteFailed."""
    unfinished = path.with_name(f"{path.name}.new")
    try:
        with unfinished.open("wb") as file:
            file.write(orjson.dumps(asdict(marker)))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise write_failure(path, error) from error
