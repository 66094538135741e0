"""Files of exported rows: Parquet, JSON lines and Lance, written batch by batch, whole or not at all.

The columns are those that exports send and imports read (`service.exporting.file_columns`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from milvine.errors import IoFailed, ParameterInvalid, UnexpectedError, write_failure
from milvine.model.types import DataType
from milvine.storage.directories import sync_directory
from milvine.storage.files import remove_tree
from milvine.storage.objects import Objects, Place

TYPE_KEY = b"milvine.type"
"""Of a column: the name of its type in Milvus."""
PARQUET, JSON_LINES, LANCE = "parquet", "jsonl", "lance"
_ENDINGS = {".parquet": PARQUET, ".jsonl": JSON_LINES, ".ndjson": JSON_LINES, ".lance": LANCE}
_DYNAMIC = "$meta"
_UNFINISHED = ".unfinished"
_JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
Batches = Iterable[pa.RecordBatch]


def format_of(target: str) -> str:
    """The format that the ending of a path or URI names. Raises ParameterInvalid."""
    found = next((one for ending, one in _ENDINGS.items() if target.endswith(ending)), None)
    if found is None:
        raise ParameterInvalid(f"{target} must end with {', '.join(_ENDINGS)}, which says the format")
    return found


def check_target(target: str, endpoint: str = "", region: str = "") -> None:
    """Raises ParameterInvalid if something is there already or the format is not known, UnexpectedError if a library is
    not installed, IoFailed if the store cannot be reached."""
    if format_of(target) == LANCE:
        _lance()
    if not _is_uri(target):
        if Path(target).exists():
            raise ParameterInvalid(f"{target} exists already")
        if not Path(target).absolute().parent.is_dir():
            raise ParameterInvalid(f"{Path(target).absolute().parent} is not a directory")
        return
    parent, _, name = target.rstrip("/").rpartition("/")
    if Objects(Place(parent, endpoint, region)).sizes(name):
        raise ParameterInvalid(f"{target} exists already")


def write_file(target: str, schema: pa.Schema, batches: Batches, endpoint: str = "", region: str = "") -> None:
    """Writes all batches. Whatever raises, `target` is then not there. Raises DiskLimitExceeded and IoFailed."""
    kind = format_of(target)
    if kind == LANCE:
        _write_lance(target, schema, batches, endpoint, region)
        return
    with _opened(target, endpoint, region) as file:
        _WRITERS[kind](file, schema, batches)


def _is_uri(target: str) -> bool:
    return "://" in target


@contextmanager
def _opened(target: str, endpoint: str, region: str) -> Iterator[Any]:
    """A file to write to, which is at its place after the block."""
    if _is_uri(target):
        parent, _, name = target.rpartition("/")
        with Objects(Place(parent, endpoint, region)).writing(name) as file:
            yield file
        return
    path = Path(target).absolute()
    with _unfinished(path) as unfinished, unfinished.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """Where this process alone writes; it is renamed to `path` after the block, or removed if that raises."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}{_UNFINISHED}")
    try:
        _remove(unfinished)  # of a process that was killed and had the same number
        yield unfinished
        if path.exists():
            raise ParameterInvalid(f"{path} exists already")
        unfinished.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        _remove(unfinished)
        raise write_failure(path, error) from error
    except BaseException:
        _remove(unfinished)
        raise


def _remove(path: Path) -> None:
    """As far as it can: the reason why a directory cannot be written is told by who writes to it."""
    with suppress(OSError):
        if path.is_dir():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)


def _write_parquet(file: Any, schema: pa.Schema, batches: Batches) -> None:
    with pq.ParquetWriter(pa.PythonFile(file, mode="w"), schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_json_lines(file: Any, schema: pa.Schema, batches: Batches) -> None:
    for batch in batches:
        names = [name for name in schema.names if name != _DYNAMIC]
        columns = [_json_values(schema.field(name), batch.column(name)) for name in names]
        dynamic = batch.column(_DYNAMIC).to_pylist() if _DYNAMIC in schema.names else None
        lines = []
        for number, values in enumerate(zip(*columns, strict=True)):
            row = dict(zip(names, values, strict=True))
            if dynamic is not None:
                row = {**orjson.loads(dynamic[number] or "{}"), **row}  # fields take precedence over keys
            lines.append(orjson.dumps(row, option=_JSON_OPTIONS))
        file.write(b"".join(lines))


_WRITERS: Mapping[str, Callable[[Any, pa.Schema, Batches], None]] = {
    PARQUET: _write_parquet,
    JSON_LINES: _write_json_lines,
}


def _json_values(field: pa.Field, array: pa.Array) -> list[Any]:
    """The values as JSON has them; those that are absent are None."""
    kind = (field.metadata or {}).get(TYPE_KEY, b"").decode()
    if kind == DataType.JSON.milvus_name:
        return [None if text is None else _json_document(text) for text in array.to_pylist()]
    if pa.types.is_struct(array.type):
        indices, values = (_lists(array.field(name)) for name in ("indices", "values"))
        found: list[Any] = [{"indices": i, "values": v} for i, v in zip(indices, values, strict=True)]
    elif pa.types.is_fixed_size_list(array.type):
        found = list(_vectors(kind, array))
    elif pa.types.is_float32(array.type):
        found = list(array.fill_null(0).to_numpy())  # whose shortest digits are those of single precision
    else:
        found = array.to_pylist()
    if array.null_count:
        found = [v if is_valid else None for v, is_valid in zip(found, array.is_valid().to_pylist(), strict=True)]
    return found


def _json_document(text: str) -> Any:
    """Imports read an object as itself and a string as JSON text, so what is no object is written as its text."""
    return orjson.Fragment(text) if text.lstrip().startswith("{") else text


def _lists(array: pa.ListArray) -> list[Any]:
    flat = array.values.to_numpy()
    return [flat[start:end] for start, end in pairwise(array.offsets.to_numpy())]


def _vectors(kind: str, array: pa.FixedSizeListArray) -> Any:
    width = array.type.list_size
    rows = array.values.slice(array.offset * width, len(array) * width).to_numpy().reshape(-1, width)
    if kind == DataType.FLOAT16_VECTOR.milvus_name:
        return np.ascontiguousarray(rows).view(np.float16).astype(np.float32)
    if kind == DataType.BFLOAT16_VECTOR.milvus_name:
        return (np.ascontiguousarray(rows).view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return rows


def _lance() -> Any:
    try:
        import lance
    except ImportError as error:
        raise UnexpectedError("Lance files need pylance: pip install 'milvine[lance]'") from error
    return lance


def _write_lance(target: str, schema: pa.Schema, batches: Batches, endpoint: str, region: str) -> None:
    lance = _lance()
    reader = pa.RecordBatchReader.from_batches(schema, batches)
    if not _is_uri(target):
        path = Path(target).absolute()
        with _unfinished(path) as unfinished:
            lance.write_dataset(reader, str(unfinished), mode="create")
        return
    options = {"endpoint": endpoint, "region": region, "allow_http": str(endpoint.startswith("http://")).lower()}
    try:
        lance.write_dataset(reader, target, mode="create", storage_options={k: v for k, v in options.items() if v})
    except (OSError, ValueError) as error:
        raise IoFailed(f"cannot write to {target}: {str(error).partition(chr(10))[0]}") from error


def lance_batches(source: str, rows_at_a_time: int, endpoint: str = "", region: str = "") -> tuple[pa.Schema, Batches]:
    """The rows of a Lance dataset. Raises UnexpectedError if pylance is not installed, IoFailed."""
    lance = _lance()
    options = {"endpoint": endpoint, "region": region, "allow_http": str(endpoint.startswith("http://")).lower()}
    try:
        opened = lance.dataset(source, storage_options={k: v for k, v in options.items() if v})
        return opened.schema, opened.to_batches(batch_size=rows_at_a_time)
    except (OSError, ValueError) as error:
        raise IoFailed(f"cannot read {source}: {str(error).partition(chr(10))[0]}") from error
