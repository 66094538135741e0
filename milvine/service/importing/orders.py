"""What the server and the child process that reads files tell each other."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from milvine.config import Settings
from milvine.model.collections import Collection
from milvine.model.file_resources import FileResource
from milvine.model.import_jobs import FileStats
from milvine.model.segments import SegmentMeta
from milvine.storage.import_files import ImportPlaces
from milvine.storage.segment_files import SegmentPaths

TASK = "milvine.service.importing.child:read"
PROGRESS = struct.Struct("<qqq")
"""What the child writes again and again: the place of the file in the job, the thousandths that are read, and rows."""


@dataclass(frozen=True)
class ReadOrder:
    """Segments, and rows without a key, are numbered from `first_segment_id` and `first_key`. `insert_ts` is written
    until the commit decides. `allowed_hosts`: of embedding models."""

    paths: SegmentPaths
    settings: Settings
    places: ImportPlaces
    allowed_hosts: str
    collection: Collection
    partition_id: int
    partition_ids: tuple[int, ...]
    files: tuple[tuple[str, ...], ...]
    options: Mapping[str, str]
    file_resources: Mapping[str, FileResource]
    first_segment_id: int
    first_key: int
    insert_ts: int
    progress_fd: int

    @property
    def input_bytes(self) -> int:
        return 0

    def elsewhere(self, paths: SegmentPaths) -> ReadOrder | None:
        return None

    def inputs(self) -> list[Path]:
        """No segment files."""
        return []


@dataclass(frozen=True)
class ReadAnswer:
    """`failure`: why the files cannot be imported, or empty. `is_input_error`: another try would fail, too."""

    segments: tuple[SegmentMeta, ...] = ()
    stats: tuple[FileStats, ...] = ()
    failure: str = ""
    is_input_error: bool = True


def progress_of(descriptor: int) -> tuple[int, int, int] | None:
    """The last numbers that the child has written; None if there are no further ones."""
    last: tuple[int, int, int] | None = None
    with contextlib.suppress(BlockingIOError):
        while content := os.read(descriptor, 512 * PROGRESS.size):
            last = PROGRESS.unpack(content[-PROGRESS.size :])
    return last
