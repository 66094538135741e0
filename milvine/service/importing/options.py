"""The options of an import, and the kinds of its files, checked when a job is made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from milvine.errors import ImportFailed, ParameterInvalid
from milvine.model.import_jobs import AUTO_COMMIT, COMMIT_WITHIN, MAX_FILES
from milvine.service.importing.csv_files import separator_of

_DURATION = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
JSON, JSON_LINES, NUMPY, PARQUET, CSV = "JSON", "JSONLines", "Numpy", "Parquet", "CSV"
_LINES = (".jsonl", ".ndjson")
_KINDS = {".json": JSON, ".jsonl": JSON_LINES, ".ndjson": JSON_LINES, ".npy": NUMPY, ".parquet": PARQUET, ".csv": CSV}


def check_options(options: Mapping[str, str]) -> None:
    """Raises ImportFailed or ParameterInvalid for a bad value. Others are ignored, as Milvus ignores what it does not
    know."""
    timeout_seconds(options)
    commit_seconds(options)
    separator_of(options)


def commits_itself(options: Mapping[str, str]) -> bool:
    return options.get(AUTO_COMMIT, "").lower() != "false"


def timeout_seconds(options: Mapping[str, str]) -> float | None:
    """None: the job may take any time."""
    return _seconds(options, "timeout")


def commit_seconds(options: Mapping[str, str]) -> float | None:
    """How long rows wait for their commit. None: for ever."""
    return _seconds(options, COMMIT_WITHIN)


def _seconds(options: Mapping[str, str], name: str) -> float | None:
    """Raises ImportFailed in Go's words."""
    text = options.get(name)
    if text is None:
        return None
    seconds, rest = 0.0, text
    while rest and (found := _DURATION.match(rest)) is not None:
        seconds += float(found[0].removesuffix(found[1])) * _SECONDS[found[1]]
        rest = rest[found.end() :]
    if rest or not text:
        raise ImportFailed(f'parse {name} failed: time: invalid duration "{text}"')
    return seconds


def file_kind(paths: Sequence[str]) -> str:
    """The kind of a group of files. Raises ImportFailed."""
    if not paths:
        raise ImportFailed("no file to import")
    endings = [PurePosixPath(path).suffix for path in paths]
    for path, ending in zip(paths, endings, strict=True):
        if ending != endings[0] and not (ending in _LINES and endings[0] in _LINES):
            raise ImportFailed(f"inconsistency in file types, ({paths[0]}) vs ({path})")
    kind = _KINDS.get(endings[0])
    if kind is None:
        raise ImportFailed(f"unexpected file type, files=[{' '.join(paths)}]")
    if kind != NUMPY and len(paths) > 1:
        raise ImportFailed(f"for {JSON if kind == JSON_LINES else kind} import, accepts only one file")
    return kind


def checked_files(files: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """The groups that are not empty. Raises ParameterInvalid, ImportFailed."""
    groups = tuple(tuple(paths) for paths in files if paths)
    if not groups:
        raise ParameterInvalid("import request is empty")
    if len(groups) > MAX_FILES:
        raise ImportFailed(f"The max number of import files should not exceed {MAX_FILES}, but got {len(groups)}")
    for paths in groups:
        file_kind(paths)
    return groups
