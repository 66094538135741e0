"""Files of a sealed segment: columns of every type, NULLs, JSON paths, keys and deletes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_columns import columns, paths_of, rows_of, valid
from sealed_damage import flip_bit, truncate

from milvine.errors import DataIntegrityError
from milvine.model.columns import Column, json_column
from milvine.model.json_paths import MAX_PATHS
from milvine.model.segments import DeleteBatch
from milvine.model.types import DataType
from milvine.storage import segment_files
from milvine.storage.arrow_batches import encode_stream
from milvine.storage.segment_files import (
    RowsFile,
    SegmentPaths,
    open_column,
    open_delta,
    open_index_file,
    open_rows,
    save_column,
    save_delta,
    save_rows,
)


@pytest.mark.parametrize("data_type", list(DataType), ids=lambda t: t.name)
@pytest.mark.parametrize("resident", [False, True], ids=["mapped", "resident"])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_column_of_every_type_comes_back_bit_by_bit(
    tmp_path_factory: pytest.TempPathFactory, data_type: DataType, resident: bool, data: st.DataObject
) -> None:
    column = data.draw(columns(data_type, data.draw(st.integers(1, 20))))
    path = tmp_path_factory.mktemp("column") / "100.col"
    assert save_column(path, column) == path.stat().st_size
    found, mapped = open_column(path, data_type, resident=resident)
    assert mapped.path == path
    assert found.data_type is data_type
    assert valid(found) == valid(column)
    assert rows_of(found) == rows_of(column)
    if data_type is DataType.JSON:
        assert found.paths is not None and column.paths is not None
        assert found.paths.is_complete == column.paths.is_complete
        assert paths_of(found) == paths_of(column)


def test_vectors_are_served_from_the_mapping_and_not_from_a_copy(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).standard_normal((500, 16), np.float32)
    save_column(tmp_path / "v.col", Column(DataType.FLOAT_VECTOR, vectors))
    column, mapped = open_column(tmp_path / "v.col", DataType.FLOAT_VECTOR, resident=False)
    whole = np.frombuffer(mapped.payload, np.uint8)
    assert np.shares_memory(column.values, whole)
    assert not column.values.flags.writeable
    del mapped, whole
    assert np.array_equal(column.values, vectors)


def test_more_paths_than_are_kept_are_remembered_as_incomplete(tmp_path: Path) -> None:
    texts = [b"{" + b",".join(b'"k%d":%d' % (i, i) for i in range(MAX_PATHS + 5)) + b"}"]
    column = json_column(pa.array(texts, pa.binary()))
    save_column(tmp_path / "j.col", column)
    found, _ = open_column(tmp_path / "j.col", DataType.JSON, resident=True)
    assert found.paths is not None
    assert not found.paths.is_complete
    assert len(found.paths.columns) == MAX_PATHS
    assert found.paths.known(1, (f"k{MAX_PATHS + 1}",)) is None


def test_paths_of_a_file_that_does_not_tell_empty_objects_apart_are_read_from_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    column = json_column(pa.array([b'{"a": {}, "b": 1}', b'{"a": {"c": 2}}'], pa.binary()))
    assert column.paths is not None
    encode = encode_stream

    def encode_as_before(arrays: dict[str, Any], metadata: dict[str, str]) -> Any:
        olden = {n: pc.min_element_wise(a, pa.scalar(6, a.type)) if "kinds" in n else a for n, a in arrays.items()}
        return encode(olden, {name: text for name, text in metadata.items() if name != "paths_tell_empty"})

    monkeypatch.setattr(segment_files, "encode_stream", encode_as_before)
    save_column(tmp_path / "old.col", column)
    opened, _ = open_column(tmp_path / "old.col", DataType.JSON, resident=True)
    assert opened.paths is not None
    assert (sorted(opened.paths.columns), opened.paths.is_complete) == ([("a", "c"), ("b",)], False)
    assert opened.paths.known(2, ("a",)) is None


def test_nested_and_odd_names_of_json_paths_stay_apart(tmp_path: Path) -> None:
    texts = [b'{"a":{"b":1},"a.b":2,"0":{"kinds":"x"},"":{"":true},"value":1.5}', b'{"a":null,"0":[1,2]}']
    column = json_column(pa.array(texts, pa.binary()))
    save_column(tmp_path / "j.col", column)
    found, _ = open_column(tmp_path / "j.col", DataType.JSON, resident=True)
    assert paths_of(found) == paths_of(column)
    assert ("a", "b") in paths_of(found) and ("a.b",) in paths_of(found) and ("", "") in paths_of(found)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30), st.booleans())
@settings(max_examples=40, deadline=None)
def test_keys_timestamps_and_order_come_back(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], as_text: bool
) -> None:
    keys: Any = np.sort(np.array(numbers, np.int64))
    if as_text:
        keys = pa.array(sorted(f"ключ {k}" for k in numbers), pa.string())
    order = np.random.default_rng(1).permutation(len(numbers)).astype(np.int32)
    rows = RowsFile(np.arange(len(numbers), dtype=np.int64) << 18, keys, order)
    path = tmp_path_factory.mktemp("rows") / "rows.seg"
    assert save_rows(path, rows) == path.stat().st_size
    found, _ = open_rows(path, resident=True)
    assert found.insert_ts.tolist() == rows.insert_ts.tolist()
    assert found.order.dtype == np.int32
    assert found.order.tolist() == order.tolist()
    assert isinstance(found.sorted_keys, np.ndarray) != as_text
    assert found.sorted_keys.tolist() == keys.tolist()


def test_a_delta_comes_back(tmp_path: Path) -> None:
    batch = DeleteBatch(pa.array(["a", "b"], pa.string()), np.array([3, 4]), np.array([-1, 7]))
    path = tmp_path / "1.delta"
    assert save_delta(path, batch) == path.stat().st_size
    found = open_delta(path)
    assert (found.keys.to_pylist(), found.ts.tolist(), found.partition_ids.tolist()) == (["a", "b"], [3, 4], [-1, 7])


def _save_some(directory: Path) -> dict[Path, Any]:
    """One file of each kind, with the function that opens and verifies it."""
    keys = np.arange(50)
    save_column(directory / "100.col", Column(DataType.INT64, keys))
    save_rows(directory / "rows.seg", RowsFile(keys, keys, keys.astype(np.int32)))
    save_delta(directory / "1.delta", DeleteBatch(keys, keys, keys))
    return {
        directory / "100.col": lambda p: open_column(p, DataType.INT64, resident=True),
        directory / "rows.seg": lambda p: open_rows(p, resident=True),
        directory / "1.delta": open_delta,
    }


@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_damaged_segment_file_is_named(
    tmp_path_factory: pytest.TempPathFactory, share: float, bit: int, cut: bool
) -> None:
    for path, open_it in _save_some(tmp_path_factory.mktemp("damage")).items():
        open_it(path)
        offset = int(share * path.stat().st_size)
        if cut:
            truncate(path, offset)
        else:
            flip_bit(path, offset, bit)
        with pytest.raises(DataIntegrityError, match=re.escape(str(path))):
            open_it(path)


def test_a_file_of_another_kind_is_not_read(tmp_path: Path) -> None:
    paths = list(_save_some(tmp_path))
    with pytest.raises(DataIntegrityError, match=re.escape(str(paths[0]))):
        open_rows(paths[0], resident=False)
    with pytest.raises(DataIntegrityError, match=re.escape(str(paths[1]))):
        open_delta(paths[1])
    with pytest.raises(DataIntegrityError, match=re.escape(str(paths[2]))):
        open_index_file(paths[2], resident=False)
    with pytest.raises(DataIntegrityError, match=re.escape(str(paths[2]))):
        open_column(paths[2], DataType.INT64, resident=False)


@given(position=st.integers(0, 1200), value=st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_a_damaged_column_mapped_without_checksum_opens_or_is_named(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    """The raw vectors beside an index are mapped without being read; an error from damaged structure names the file."""
    path = tmp_path_factory.mktemp("mapped") / "101.col"
    vectors = np.arange(120, dtype=np.float32).reshape(30, 4)
    save_column(path, Column(DataType.FLOAT_VECTOR, vectors))
    data = bytearray(path.read_bytes())
    data[min(position, len(data) - 33)] = value
    path.write_bytes(data)
    try:
        column, _ = open_column(path, DataType.FLOAT_VECTOR, resident=False)
    except DataIntegrityError as error:
        assert str(path) in error.message
    else:
        assert column.values.shape == (30, 4)


def test_paths_name_collection_segment_and_file(tmp_path: Path) -> None:
    paths = SegmentPaths(tmp_path)
    assert paths.column(1, 2, 100) == tmp_path / "segments" / "1" / "2" / "100.col"
    assert paths.index(1, 2, "9.index") == tmp_path / "segments" / "1" / "2" / "9.index"
    assert paths.delta(1, 3) == tmp_path / "segments" / "1" / "3.delta"
    assert paths.wal(1) == tmp_path / "wal" / "1"
