"""Operations on whole columns of arrays do what Python's lists do, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvine.model.columns import Column
from milvine.model.schema import FieldSchema
from milvine.model.types import DataType
from milvine.service import array_operations

ELEMENTS = {
    DataType.INT64: (pa.int64(), st.integers(-3, 3)),
    DataType.BOOL: (pa.bool_(), st.booleans()),
    DataType.FLOAT: (pa.float32(), st.sampled_from([0.0, -0.0, 1.5, -2.0])),
    DataType.VARCHAR: (pa.string(), st.sampled_from(["", "a", "b", "ä"])),
}


def _column(rows: list[list[Any] | None], element: pa.DataType) -> Column:
    values = pa.array([row or [] for row in rows], pa.list_(element))
    return Column(DataType.ARRAY, values, np.array([row is not None for row in rows], np.bool_))


def _plain(column: Column) -> list[Any]:
    assert column.validity is not None
    return [row if valid else None for row, valid in zip(column.values.to_pylist(), column.validity, strict=True)]


@pytest.mark.parametrize("element_type", ELEMENTS)
@given(data=st.data())
def test_operations_change_lists_row_by_row(element_type: DataType, data: st.DataObject) -> None:
    arrow, element = ELEMENTS[element_type]
    lists = st.none() | st.lists(element, max_size=4)
    pairs = data.draw(st.lists(st.tuples(lists, lists), max_size=6))
    field = FieldSchema(100, "tags", DataType.ARRAY, element_type=element_type, max_capacity=8)
    olds, news = ([pair[i] for pair in pairs] for i in (0, 1))
    appended = array_operations.appended(field, _column(olds, arrow), _column(news, arrow))
    assert _plain(appended) == [old if new is None else [*(old or []), *new] for old, new in pairs]
    removed = array_operations.removed(field, _column(olds, arrow), _column(news, arrow))
    assert _plain(removed) == [old if new is None else [e for e in old or [] if e not in new] for old, new in pairs]
