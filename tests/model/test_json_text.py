"""The one decoder of JSON."""

from __future__ import annotations

import math

import pytest

from milvine.model import json_text
from milvine.model.json_text import NotJson, plain_text


def test_integers_keep_all_their_digits() -> None:
    number = 3**200
    assert json_text.loads(b"[%d, -%d]" % (number, number)) == [number, -number]
    assert json_text.loads(json_text.dumps([number])) == [number]


@pytest.mark.parametrize("text", [b"NaN", b"[1,]", b"01", b"\xff", b'"\xff"', b"1e400", b"[" * 5000 + b"]" * 5000, b""])
def test_invalid_json_is_refused(text: bytes) -> None:
    with pytest.raises(NotJson):
        json_text.loads(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (rb'"\ud83d"', "\ufffd"),
        (rb'"\ude00\ud83d"', "\ufffd\ufffd"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
        (rb'"\\ud83d\uD83D"', "\\ud83d\ufffd"),
        (rb'{"\udc00": 1}', {"\ufffd": 1}),
    ],
)
def test_a_lone_surrogate_becomes_the_replacement_character(text: bytes, value: object) -> None:
    assert json_text.loads(text) == value


def test_members_are_kept_as_they_were_sent() -> None:
    found = json_text.members(b'{"a": 1.10, "b": {"x":  [1]}, "a": 2.0}')
    assert {k: bytes(v) for k, v in found.items()} == {"a": b"2.0", "b": b'{"x":  [1]}'}
    assert json_text.dumps(found) == b'{"a":2.0,"b":{"x":  [1]}}'


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 100_000], ids=["lists", "objects"])
def test_a_text_nested_too_deep_is_refused_with_the_reason_of_go(text: bytes) -> None:
    with pytest.raises(NotJson, match=r"^exceeded max depth$"):
        json_text.loads(text)


def test_only_objects_have_members() -> None:
    for text in (b"[]", b"1", b"null"):
        with pytest.raises(NotJson):
            json_text.members(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (1.1, "1.1"),
        (1e21, "1" + "0" * 21),
        (-0.0, "-0"),
        (1e-7, "0.0000001"),
        (True, "true"),
        (2**70, str(2**70)),
    ],
)
def test_numbers_become_text_without_an_exponent(value: object, text: str) -> None:
    assert plain_text(value) == text
    assert not isinstance(value, float) or math.copysign(1, float(text)) == math.copysign(1, value)
