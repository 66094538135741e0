"""JSON paths that few rows have take memory only for these rows, and read like any other path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from milvine.model.columns import Column, concat_columns, json_column
from milvine.model.json_paths import PathColumn, SparsePathColumn, extract
from milvine.model.types import DataType
from milvine.storage.segment_files import open_column, save_column

VALUES = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, width=32))
DOCUMENTS = st.lists(
    st.dictionaries(st.sampled_from("abcdefgh"), st.one_of(VALUES, st.text(max_size=3)), max_size=2), max_size=20
)
PATHS = [(name,) for name in "abcdefghx"]


def _column(documents: list[dict[str, Any]]) -> Column:
    return json_column(pa.array([orjson.dumps(d) for d in documents], pa.binary()))


def _values(path: PathColumn) -> list[Any]:
    parts = [[None] * len(path) if p is None else p.tolist() for p in (path.integers, path.doubles)]
    texts = [None] * len(path) if path.strings is None else path.strings.to_pylist()
    kinds = path.kinds.tolist()
    # Numbers are fillers if the kind is another one.
    return [
        (k, i if k in (2, 3) else 0, d if k == 4 else 0, t) for k, i, d, t in zip(kinds, *parts, texts, strict=True)
    ]


def _check(column: Column) -> None:
    assert column.paths is not None
    for path in PATHS:
        known = column.paths.known(len(column), path)
        assert known is not None
        assert _values(known) == _values(extract(column.values, path))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(DOCUMENTS, min_size=1, max_size=4), st.integers(0, 20), st.integers(0, 20))
def test_joined_and_cut_paths_read_as_if_each_row_were_parsed(
    pieces: list[list[dict[str, Any]]], start: int, count: int
) -> None:
    columns = [_column(documents) for documents in pieces]
    joined = concat_columns(columns)
    for column in (*columns, joined, joined.slice(start, start + count)):
        _check(column)


def test_a_thousand_rare_keys_take_little_memory_and_come_back_from_a_file(tmp_path: Path) -> None:
    column = _column([{f"key{i % 200}": i, "text": f"t{i}"} for i in range(20_000)])
    assert column.paths is not None
    assert isinstance(column.paths.columns[("key7",)], SparsePathColumn)
    assert isinstance(column.paths.columns[("text",)], PathColumn)
    assert column.paths.bytes_used < 50 * 20_000  # densely, 2 kB a row
    size = save_column(tmp_path / "j.col", column)
    assert size < 100 * 20_000
    for resident in (False, True):
        found, _ = open_column(tmp_path / "j.col", DataType.JSON, resident=resident)
        assert found.paths is not None
        assert list(found.paths.columns) == list(column.paths.columns)
        for path in column.paths.columns:
            expected = column.paths.known(20_000, path)
            known = found.paths.known(20_000, path)
            assert known is not None
            assert expected is not None
            assert _values(known) == _values(expected)
