"""Sparse vectors in messages and in JSON, and as a column."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvine.errors import ParameterInvalid
from milvine.model.sparse_vectors import (
    SparseVectors,
    decode,
    decode_json,
    empty_vectors,
    encode,
    encode_json,
    join,
    spread,
)

INVALID = ": invalid parameter"


def packed(*pairs: tuple[int, float]) -> bytes:
    return b"".join(struct.pack("<If", index, value) for index, value in pairs)


_pairs = st.dictionaries(st.integers(0, 2**32 - 2) | st.integers(0, 20), st.floats(0, 2.0**127, width=32))
_contents = st.lists(_pairs.map(lambda d: packed(*sorted(d.items()))))


@given(_contents)
def test_vectors_keep_every_bit_between_messages(contents: list[bytes]) -> None:
    vectors = decode(contents)
    assert encode(vectors) == contents
    assert len(vectors) == len(contents)
    assert vectors.sizes.tolist() == [len(c) // 8 for c in contents]
    assert vectors.dim == max((struct.unpack_from("<I", c, len(c) - 8)[0] + 1 for c in contents if c), default=0)
    dtypes = vectors.offsets.dtype, vectors.indices.dtype, vectors.values.dtype
    assert dtypes == (np.int64, np.uint32, np.float32)


@given(_contents, st.data())
def test_vectors_are_taken_and_joined_as_a_list_is(contents: list[bytes], data: st.DataObject) -> None:
    vectors = decode(contents)
    start, stop = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))
    assert encode(vectors[start:stop]) == contents[start:stop]
    assert encode(vectors[::2]) == contents[::2]
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(contents), max_size=len(contents))), np.bool_)
    assert encode(vectors[mask]) == [c for c, kept in zip(contents, mask, strict=True) if kept]
    assert encode(join([vectors, vectors[:0], vectors[mask]])) == contents + encode(vectors[mask])
    validity = np.repeat([True, False], [len(contents), 2])
    assert encode(spread(vectors, validity)) == [*contents, b"", b""]
    if contents:
        rows = data.draw(st.lists(st.integers(0, len(contents) - 1)))
        assert encode(vectors[np.array(rows, np.int64)]) == [contents[row] for row in rows]


def test_a_slice_is_a_view() -> None:
    vectors = decode([packed((1, 0.5)), packed((2, 1.5), (7, 2.5))])
    assert np.shares_memory(vectors[1:].values, vectors.values)
    assert vectors.nbytes == 3 * 8 + 3 * 4 + 3 * 4
    assert encode(empty_vectors(2)) == [b"", b""]


GOOD = packed((1, 0.5), (4, 0.0))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ([GOOD, b"abc"], "invalid data length in sparse float vector: 3"),
        ([GOOD, packed((2**32 - 1, 1.0))], "invalid index in sparse float vector: must be less than 2^32-1"),
        ([packed((2, 1.0), (1, 1.0))], "unsorted or same indices in sparse float vector"),
        ([packed((2, 1.0), (2, 1.0))], "unsorted or same indices in sparse float vector"),
        ([packed((2, float("nan")))], "value 'NaN' is not a number or infinity"),
        ([packed((2, float("inf")))], "value '+Inf' is not a number or infinity"),
        ([packed((2, float("-inf")))], "value '-Inf' is not a number or infinity"),
        ([packed((2, -1.0))], "negative value in sparse float vector"),
        ([packed((2, -1.0)), b"abc"], "negative value in sparse float vector"),
        ([b"abcd", packed((2, -1.0))], "invalid data length in sparse float vector: 4"),
        ([packed((2, -1.0), (1, 1.0))], "negative value in sparse float vector"),
        ([packed((2, 1.0), (1, -1.0))], "unsorted or same indices in sparse float vector"),
    ],
)
def test_the_first_wrong_vector_of_a_message_is_refused(contents: list[bytes], message: str) -> None:
    with pytest.raises(ParameterInvalid) as refused:
        decode(contents)
    assert refused.value.message == message + INVALID


def test_indices_may_begin_anew_in_each_vector() -> None:
    contents = [packed((5, 1.0), (9, 1.0)), b"", packed((9, 1.0)), packed((1, 1.0)), b""]
    assert encode(decode(contents)) == contents


@given(st.lists(_pairs))
def test_both_forms_of_json_give_the_vectors_of_a_message(rows: list[dict[int, float]]) -> None:
    contents = [packed(*sorted(row.items())) for row in rows]
    by_key = [{str(index): value for index, value in row.items()} for row in rows]
    by_list = [{"indices": list(row), "values": list(row.values())} for row in rows]
    assert encode(decode_json(by_key)) == contents
    assert encode(decode_json(by_list)) == contents
    written = orjson.loads(orjson.dumps(encode_json(decode(contents)), option=orjson.OPT_SERIALIZE_NUMPY))
    assert encode(decode_json(written)) == contents


def test_json_takes_the_numbers_that_go_takes() -> None:
    given_rows: list[Any] = [
        {"0x10": 1, "0b11": 2.5, "010": 3, "1_000": 4, "0": 5},
        None,
        {"indices": [2.0], "values": [1]},
    ]
    vectors = decode_json(given_rows)
    assert vectors.indices.tolist() == [0, 3, 8, 16, 1000, 2]
    assert vectors.values.tolist() == [5, 2.5, 3, 1, 4, 1]
    assert vectors.sizes.tolist() == [5, 0, 1]


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([1], "json: cannot unmarshal array into Go value of type map[string]interface {}"),
        ("x", "json: cannot unmarshal string into Go value of type map[string]interface {}"),
        ({"a": 1}, 'strconv.ParseUint: parsing "a": invalid syntax'),
        ({"-1": 1}, 'strconv.ParseUint: parsing "-1": invalid syntax'),
        ({"08": 1}, 'strconv.ParseUint: parsing "08": invalid syntax'),
        ({"4294967296": 1}, 'strconv.ParseUint: parsing "4294967296": value out of range'),
        ({"4294967295": 1}, "invalid index in sparse float vector: must be less than 2^32-1" + INVALID),
        ({"1": 1, "0x1": 2}, "unsorted or same indices in sparse float vector" + INVALID),
        ({"1": "a"}, "invalid value type in JSON: string" + INVALID),
        ({"1": None}, "invalid value type in JSON: <nil>" + INVALID),
        ({"1": True}, "invalid value type in JSON: bool" + INVALID),
        ({"1": [1]}, "invalid value type in JSON: []interface {}" + INVALID),
        ({"1": 1e39}, "value too large in JSON: 1e+39" + INVALID),
        ({"1": -1e39}, "value '-Inf' is not a number or infinity" + INVALID),
        ({"1": -1}, "negative value in sparse float vector" + INVALID),
        ({"1": 10**400}, f"json: cannot unmarshal number {10**400} into Go value of type float64"),
        ({"indices": [1], "values": [1, 2]}, "indices and values length mismatch" + INVALID),
        ({"indices": [1], "values": 3}, "invalid JSON input" + INVALID),
        ({"indices": [1]}, "invalid JSON input" + INVALID),
        ({"indices": 1, "values": 3}, 'strconv.ParseUint: parsing "indices": invalid syntax'),
        ({"indices": [1.5], "values": [3]}, "invalid index in JSON: 1.5" + INVALID),
        ({"indices": [1e300], "values": [3]}, "invalid index in JSON: 1e+300" + INVALID),
        ({"indices": ["1"], "values": [3]}, "invalid index type in JSON: string" + INVALID),
        ({"indices": [4294967295], "values": [3]}, "index too large in JSON: 4294967295" + INVALID),
        ({"indices": [-1], "values": [3]}, "invalid index in sparse float vector: must be less than 2^32-1" + INVALID),
        ({"indices": [3, 3], "values": [3, 1]}, "unsorted or same indices in sparse float vector" + INVALID),
    ],
)
def test_the_first_wrong_vector_of_json_is_refused(vector: object, message: str) -> None:
    for rows in ([vector], [{"7": 0.5}, vector, {"x": 1}]):
        with pytest.raises(ValueError) as refused:
            decode_json(rows)
        assert str(refused.value) == message


def test_a_wrong_value_is_refused_before_a_later_vector_that_cannot_be_read() -> None:
    with pytest.raises(ValueError, match="negative value in sparse float vector"):
        decode_json([{"1": -1}, {"x": 1}])


def test_vectors_without_rows_have_no_dimension() -> None:
    assert decode([]).dim == decode_json([]).dim == 0
    assert isinstance(decode([]), SparseVectors)
