"""Import jobs: files whose rows become sealed segments of one collection, all at once."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from milvine.errors import ParameterInvalid
from milvine.model.records import record
from milvine.model.segments import SegmentMeta

MAX_FILES = 1024
MAX_JOBS = 1024
MAX_FILE_BYTES = 16 << 30
RETENTION_SECONDS = 3 * 3600
"""How long a job is listed after its end."""
ABORTED = "aborted by user"
AUTO_COMMIT = "auto_commit"
"""The option."""
COMMIT_WITHIN = "commit_within"
"""Our option: how long the rows of a job wait for its commit, so that a client that dies leaves none for ever."""


class JobState(StrEnum):
    """Milvus's names. A job is stored as pending until its rows are written: a restart begins it again."""

    PENDING = "Pending"
    IMPORTING = "Importing"
    INDEX_BUILDING = "IndexBuilding"
    UNCOMMITTED = "Uncommitted"
    COMMITTING = "Committing"
    COMPLETED = "Completed"
    FAILED = "Failed"

    @property
    def has_ended(self) -> bool:
        return self in (JobState.COMPLETED, JobState.FAILED)


@record
class FileStats:
    """What was read of one group of files."""

    size: int
    row_count: int


@record
class ImportJob:
    """`files`: groups of paths, each one file or the .npy files of the fields. `partition_id`: ALL_PARTITIONS if the
    partition key decides. Times are milliseconds; `ended_ms` is 0 before the end.

    `segments` are written and not part of the collection yet; only an uncommitted job has them.
    """

    job_id: int
    collection_id: int
    collection_name: str
    database: str
    partition_id: int
    files: tuple[tuple[str, ...], ...]
    options: Mapping[str, str]
    created_ms: int
    state: JobState = JobState.PENDING
    reason: str = ""
    ended_ms: int = 0
    row_count: int = 0
    stats: tuple[FileStats, ...] = ()
    segments: tuple[SegmentMeta, ...] = ()


def check_auto_commit(options: Mapping[str, str | None]) -> None:
    """Raises ParameterInvalid, as REST does."""
    if AUTO_COMMIT in options and (options[AUTO_COMMIT] or "").lower() not in ("true", "false"):
        raise ParameterInvalid(f'options.{AUTO_COMMIT} must be one of "true" or "false"')
