"""Scalar indexes as parts of a sealed segment: opened, counted, shared, and refused when damaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from segment_rows import GROUP, PK, SCHEMA, VEC, chunk_of, seal

from milvine.errors import DataIntegrityError
from milvine.expr import compile_filter, evaluate
from milvine.index import scalar
from milvine.model.schema import IndexSpec
from milvine.model.segments import SegmentIndexMeta
from milvine.segment.sealed import SealedSegment, open_segment
from milvine.storage.segment_files import SegmentPaths, save_scalar_index

INDEX_ID = 901
INDEX = IndexSpec(INDEX_ID, GROUP, "group", "INVERTED", None, build_type="INVERTED")


def indexed(root: Path, *, mapped: bool = False, previous: SealedSegment | None = None) -> SealedSegment:
    """2,000 rows whose `group` is indexed."""
    plain = previous or seal(root, chunk_of(range(2000)))
    path = SegmentPaths(root).index(1, 7, f"{INDEX_ID}.index")
    size = save_scalar_index(path, *scalar.encode({(): scalar.index_field(plain.column(GROUP))}))
    meta = replace(plain.meta, indexes={INDEX_ID: SegmentIndexMeta(INDEX_ID, path.name, size)})
    spec = replace(plain.spec, scalar_indexes=(INDEX,), mapped=mapped)
    return open_segment(SegmentPaths(root), meta, spec, plain)


def test_an_index_is_resident_and_counted_beside_its_column(tmp_path: Path) -> None:
    segment = indexed(tmp_path)
    path = SegmentPaths(tmp_path).index(1, 7, f"{INDEX_ID}.index")
    assert segment.memory_bytes["index", INDEX_ID] == path.stat().st_size - 32
    assert segment.memory_bytes["field", GROUP] > 0
    index = segment.value_index(GROUP, (), has_elements=False)
    assert index is not None
    assert segment.value_index(GROUP, (), has_elements=True) is None
    assert segment.value_index(PK, (), has_elements=False) is None
    mask = evaluate(compile_filter("group in [3, 98]", SCHEMA), segment)
    assert np.flatnonzero(mask).tolist() == [n for n in range(2000) if n % 100 in (3, 98)]


def test_an_index_comes_and_goes_while_the_other_parts_stay(tmp_path: Path) -> None:
    plain = seal(tmp_path, chunk_of(range(2000)))
    segment = indexed(tmp_path, previous=plain)
    assert all(segment.parts[key] is part for key, part in plain.parts.items())
    spec = replace(segment.spec, scalar_indexes=())
    without = open_segment(SegmentPaths(tmp_path), replace(segment.meta, indexes={}), spec, segment)
    assert without.parts.keys() == plain.parts.keys()
    assert without.value_index(GROUP, (), has_elements=False) is None


def test_an_index_of_a_mapped_segment_takes_no_memory_and_answers(tmp_path: Path) -> None:
    segment = indexed(tmp_path, mapped=True)
    assert segment.memory_bytes["index", INDEX_ID] == 0
    assert segment.value_index(GROUP, (), has_elements=False) is not None
    mask = evaluate(compile_filter("group == 5", SCHEMA), segment)
    assert np.flatnonzero(mask).tolist() == list(range(5, 2000, 100))


@pytest.mark.parametrize("place", ["payload", "kind"])
def test_a_damaged_index_is_named_and_not_opened(tmp_path: Path, place: str) -> None:
    segment = indexed(tmp_path)
    path = SegmentPaths(tmp_path).index(1, 7, f"{INDEX_ID}.index")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if place == "payload" else len(data) - 32] ^= 1
    path.unlink()
    path.write_bytes(data)
    with pytest.raises(DataIntegrityError, match=path.name):
        open_segment(SegmentPaths(tmp_path), segment.meta, segment.spec)
    assert segment.vectors(VEC)[0].shape == (2000, 16)
