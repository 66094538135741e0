"""Files that imports refuse, read without a server."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from milvine.config import load_settings
from milvine.model.collections import Collection, Partition
from milvine.model.schema import CollectionSchema, FieldSchema
from milvine.model.types import ConsistencyLevel, DataType
from milvine.service.importing.child import read_files
from milvine.service.importing.orders import ReadAnswer, ReadOrder, progress_of
from milvine.storage.files import walk_files
from milvine.storage.import_files import ImportPlaces
from milvine.storage.segment_files import SegmentPaths

SCHEMA = CollectionSchema(
    (
        FieldSchema(100, "id", DataType.INT64, is_primary=True),
        FieldSchema(101, "group", DataType.VARCHAR, max_length=8),
        FieldSchema(102, "vector", DataType.FLOAT_VECTOR, dim=2),
    )
)


class Files:
    """Reads files of one directory as a job does."""

    def __init__(self, directory: Path) -> None:
        self.files = directory / "files"
        self.files.mkdir()
        self.data = directory / "data"
        self.reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def read(self, *names: str, schema: CollectionSchema = SCHEMA, **settings: Any) -> ReadAnswer:
        collection = Collection(
            1, "default", "c", schema, 1, ConsistencyLevel.STRONG, 1, {}, (Partition(2, "_default", 1),), (), None, 1, 0
        )
        order = ReadOrder(
            SegmentPaths(self.data),
            load_settings(settings, {}, None),
            ImportPlaces((str(self.files),)),
            "",
            collection,
            2,
            (2,),
            tuple((name,) for name in names),
            {},
            {},
            1000,
            1 << 40,
            7,
            self._writing,
        )
        return read_files(order)

    def close(self) -> None:
        os.close(self.reading)
        os.close(self._writing)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    made = Files(tmp_path)
    yield made
    made.close()


def _text(content: str | bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def _table(**columns: Any) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.table(columns), path)


def _wrong_late(path: Path) -> None:
    """A row with another dimension after many good ones."""
    vectors = [[1.0, 2.0]] * 40_000
    vectors[31_234] = [1.0]
    pq.write_table(pa.table({"id": range(40_000), "group": ["g"] * 40_000, "vector": vectors}), path)


def _truncated(path: Path) -> None:
    _wrong_late(path)
    path.write_bytes(path.read_bytes()[:-200])


def _flipped(path: Path) -> None:
    """A value that is changed, in a file with checksums."""
    table = pa.table({"id": range(9), "group": ["good"] * 9, "vector": [[1.0, 2.0]] * 9})
    pq.write_table(
        table, path, compression="none", use_dictionary=False, write_page_checksum=True, write_statistics=False
    )
    path.write_bytes(path.read_bytes().replace(b"good", b"evil", 1))


LONG_ROW = '{"id": 1, "group": "123456789", "vector": [1, 2]}'
ROW = '{"id": 1, "group": "g", "vector": [1, 2]}'
OBJECT_ROW = ROW.replace("1,", '{"b": null, "a": [true, "x"]},', 1)
BAD_FILES: list[tuple[str, Callable[[Path], None], str]] = [
    (
        "late.parquet",
        _wrong_late,
        "length of vector is not aligned: expected 2 but got 1, data type: FloatVector, row number: 31234, "
        "file: late.parquet: importing data failed",
    ),
    ("truncated.parquet", _truncated, "new parquet reader failed, err="),
    ("empty.parquet", _text(""), "new parquet reader failed, err="),
    (
        "types.parquet",
        _table(id=["a"], group=["g"], vector=[[1.0, 2.0]]),
        "schema not equal, err=field 'id' type mis-match, expect arrow type 'int64', get arrow data type 'utf8'",
    ),
    ("lacks.parquet", _table(id=[1], group=["g"]), "schema not equal, err=field 'vector' not in arrow schema"),
    (
        "nulls.parquet",
        _table(id=[1, 2], group=["g", None], vector=[[1.0, 2.0]] * 2),
        "the field 'group' is not nullable but the file contains null value, row number: 1",
    ),
    (
        "nan.parquet",
        _table(id=[1, 2], group=["g", "g"], vector=[[1.0, 2.0], [1.0, float("nan")]]),
        "value 'NaN' is not a number or infinity: invalid parameter, row number: 1",
    ),
    (
        "long.jsonl",
        _text(f"{ROW}\n{LONG_ROW}"),
        "value length(9) for field group exceeds max_length(8): invalid parameter, row number: 1",
    ),
    (
        "dim.json",
        _text(f"[{ROW}, {ROW.replace('[1, 2]', '[1]')}]"),
        "expected dim '2' for field 'vector' with type 'FloatVector', got dim '1', row number: 1",
    ),
    (
        "kind.json",
        _text(f"[{ROW}, {ROW.replace('1,', 'true,', 1)}]"),
        "expected type 'Int64' for field 'id', got type 'bool' with value 'true', row number: 1",
    ),
    (
        "number.json",
        _text(f"[{ROW}, 7]"),
        "failed to parse row, error: invalid JSON format, each row should be a key-value map, but got type float64"
        ": importing data failed, row number: 1",
    ),
    (
        "object.json",
        _text(f"[{ROW}, {OBJECT_ROW}]"),
        "expected type 'Int64' for field 'id', got type 'map[string]interface {}' "
        "with value 'map[a:[true x] b:<nil>]', row number: 1",
    ),
    (
        "list.json",
        _text(f"[{ROW}, [1]]"),
        "failed to parse row, error: invalid JSON format, each row should be a key-value map, but got type "
        "[]interface {}: importing data failed, row number: 1",
    ),
    (
        "words.jsonl",
        _text(f"{ROW}\nnot json\n"),
        "failed to decode row, error: invalid character 'n' at its start, row number: 1",
    ),
    ("header.csv", _text("x" * 200_000), "failed to read csv header, error: field larger than field limit"),
    ("garbage.json", _text("hello"), "invalid JSON format, the content should be started with '{' or '['"),
    ("root.json", _text('{"data": []}'), "invalid JSON format, the root key should be 'rows', but get 'data'"),
    ("open.json", _text(f"[{ROW},"), "failed to decode JSON, error: unexpected EOF, row number: 1"),
    (
        "half.jsonl",
        _text(f"{ROW}\n{ROW[:20]}"),
        "failed to decode row, error: Input data was truncated, row number: 1",
    ),
    (
        "missing.json",
        _text('[{"id": 1, "vector": [1, 2]}]'),
        "failed to parse row, error: value of field 'group' is missed: importing data failed, row number: 0",
    ),
    (
        "width.csv",
        _text('id,group,vector\n1,g,"[1, 2]"\n2,g\n'),
        "failed to parse row, error: the number of fields in the row is not equal to the header "
        "(CSV parse error: Row #3: Expected 3 columns, got 2: 2,g), row number: 1",
    ),
    (
        "cell.csv",
        _text('id,group,vector\n1,g,"[1, 2]"\n2,g,"[1, x]"\n'),
        "expected type 'FloatVector' for field 'vector', got type 'string' with value '[1, x]', row number: 1",
    ),
    (
        "open.csv",
        _text('id,group,vector\n1,"' + "g,g\n" * (5 << 20)),
        "failed to parse row, error: a row has more than 8388608 bytes, or quotes that do not end",
    ),
    (
        "unended.csv",
        _text('id,group,vector\n1,g,"[1, 2]"\n2,"g,"[1, 2]"\n3,g,"[1, 2]"\n'),
        'failed to parse row, error: parse error on line 3: extraneous or missing " in quoted-field',
    ),
    (
        "half.csv",
        _text('id,vector,group\n1,"[1, 2]",g\n2,"[1, 2]","g\n3,h'),
        'failed to parse row, error: parse error on line 3: extraneous or missing " in quoted-field',
    ),
    (
        "bare.csv",
        _text('id,group,vector\n1,"g\n""h""","[1, 2]"\n2,g"h"i,"[1, 2]"\n'),
        'failed to parse row, error: parse error on line 4: bare " in non-quoted field',
    ),
    (
        "space.csv",
        _text('id,group,vector\n 1,g,"[1, 2]"\n'),
        "expected type 'Int64' for field 'id', got type 'string' with value ' 1', row number: 0",
    ),
    (
        "hexadecimal.csv",
        _text('id,group,vector\n1,g,"[1, 2]"\n0xFF,g,"[1, 2]"\n'),
        "expected type 'Int64' for field 'id', got type 'string' with value '0xFF', row number: 1",
    ),
    ("flipped.parquet", _flipped, "read parquet file failed after row 0, err=could not verify page integrity, CRC"),
    ("lacks.csv", _text("id,group\n1,g\n"), "value of field is missed: 'vector'"),
    (
        "no_such.csv",
        lambda _path: None,
        "failed to read the file 'no_such.csv', error: The specified key does not exist",
    ),
    ("bytes.csv", _text(b"id,group,vector\n1,\xff,[1]\n"), "failed to parse row, error: "),
]


@pytest.mark.parametrize(("name", "write", "text"), BAD_FILES, ids=[name for name, _, _ in BAD_FILES])
def test_a_bad_file_is_refused_with_its_row_and_leaves_nothing(
    files: Files, name: str, write: Callable[[Path], None], text: str
) -> None:
    write(files.files / name)
    answer = files.read(name)
    assert answer.failure.startswith(text), answer.failure
    assert answer.failure.endswith(f"file: {name}: importing data failed"), answer.failure
    assert answer.is_input_error
    assert list(walk_files(files.data)) == []


def test_a_file_that_cannot_be_written_ends_the_job_and_leaves_nothing(files: Files) -> None:
    vectors = [[float(i), 1.0] for i in range(20_000)]
    table = pa.table({"id": range(20_000), "group": ["g"] * 20_000, "vector": vectors})
    pq.write_table(table, files.files / "a.parquet")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        answer = files.read("a.parquet")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert answer.failure.startswith("cannot write ")
    assert "File too large" in answer.failure
    assert not answer.is_input_error
    assert list(walk_files(files.data)) == []


def test_rows_are_divided_into_segments_above_half_of_the_limit(files: Files) -> None:
    vectors = [[float(i), 1.0] for i in range(50_000)]
    pq.write_table(
        pa.table({"id": range(50_000), "group": ["g"] * 50_000, "vector": vectors}), files.files / "a.parquet"
    )
    answer = files.read("a.parquet", "a.parquet", segment_max_rows=60_000)
    assert answer.failure == ""
    assert [one.row_count for one in answer.stats] == [50_000, 50_000]
    counts = [meta.row_count for meta in answer.segments]
    assert sum(counts) == 100_000
    assert all(30_000 < count <= 60_000 for count in counts[:-1])
    assert progress_of(files.reading) == (1, 1000, 100_000)
    assert {path.suffix for path in walk_files(files.data)} == {".col", ".seg"}


def test_a_file_of_numpy_with_a_negative_shape_is_refused(files: Files) -> None:
    header = {"descr": "<i8", "fortran_order": False, "shape": (-5,)}
    with (files.files / "id.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    answer = files.read("id.npy", schema=CollectionSchema((FieldSchema(100, "id", DataType.INT64, is_primary=True),)))
    assert answer.failure.startswith("failed to read the numpy file 'id.npy', error: the shape (-5,) has a negative")
