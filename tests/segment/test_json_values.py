"""Values of JSON documents as texts, against the standard library."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from milvine.model.columns import json_column
from milvine.model.json_paths import extract
from milvine.segment.json_values import texts_at, texts_of

VALUES: list[Any] = [
    *(1, "1", True, False, None, 2.5, -7, "", "a b", 'quo"te', "back\\slash", "line\nbreak", "é\x01"),
    *([], {}, [None], [1, "x"], {"b": 1, "a": [2]}, 2**62),
]


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@pytest.mark.parametrize("count", [len(VALUES), 9, 1])
def test_values_at_a_path_are_json_texts(count: int) -> None:
    documents = [*({"k": value} for value in VALUES[:count]), {}]
    column = json_column(pa.array([json.dumps(one).encode() for one in documents], pa.binary()))
    found = texts_at(extract(column.values, ("k",)), column, ("k",)).to_pylist()
    assert found[-1] is None
    assert [json.loads(text) for text in found[:-1]] == VALUES[:count]
    assert found[:-1] == [_text(json.loads(text)) for text in found[:-1]]


def test_documents_are_texts_without_blanks() -> None:
    column = json_column(pa.array([b'{"a": [1, 2]}', b'{"a":[1,2]}', b"3", b"{}"], pa.binary()))
    column = replace(column, validity=np.array([True, True, True, False]))
    assert texts_of(column).to_pylist() == ['{"a":[1,2]}', '{"a":[1,2]}', "3", None]
