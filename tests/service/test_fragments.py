"""How texts are cut into fragments around their marked words."""

from __future__ import annotations

import pytest

from milvine.service.reading.fragments import FragmentOptions, Span, fragments

TEXT = "I have the seat full of water! Like, full of water!"
WATER = [(24, 29), (45, 50)]


def _cut(spans: list[Span], size: int, offset: int = 0, most: int = 5, text: str = TEXT) -> list[str]:
    return fragments(text, spans, FragmentOptions(["{"], ["}"], size, offset, most))


@pytest.mark.parametrize(
    ("size", "offset", "most", "expected"),
    [
        (1, 0, 0, []),
        (1, 0, 1, ["{water}"]),
        (1, 0, 2, ["{water}", "{water}"]),
        (9, 0, 2, ["{water}! Li", "{water}!"]),
        (100, 0, 2, ["{water}! Like, full of {water}!"]),
        (5, 5, 2, ["l of {water}", "l of {water}"]),
        (5, 100, 2, ["I have the seat full of {water}", "I have the seat full of water! Like, full of {water}"]),
    ],
)
def test_a_fragment_has_its_size_and_begins_before_its_first_word(
    size: int, offset: int, most: int, expected: list[str]
) -> None:
    assert _cut(WATER, size, offset, most) == expected


def test_words_that_touch_or_overlap_are_marked_together() -> None:
    assert _cut([(2, 4), (0, 2), (1, 3), (2, 3)], 100, text="abcdef") == ["{abcd}ef"]
    assert _cut([(0, 1), (2, 3)], 100, text="東 京") == ["{東} {京}"]


def test_tags_are_used_in_turn_from_the_first_in_each_fragment() -> None:
    options = FragmentOptions(["{", "<"], ["}", ">", "="], 5, 0, 5)
    assert fragments("a b c d      e", [(0, 1), (2, 3), (4, 5), (6, 7), (13, 14)], options) == [
        "{a} <b> {c=",
        "{d}    ",
        "{e}",
    ]


def test_a_text_without_marked_words_has_no_fragment() -> None:
    assert _cut([], 100) == []
