"""A text with an index of its words and a BM25 field, for tests that also have other fields, and a slow reference.

`bm25_b` is 0, so a score is a function of how often the row has the word, times a weight that is the same for all rows.
The weight depends on deleted rows that are not compacted yet, which the reference does not know.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from pymilvus import DataType, Function, FunctionType
from sample_collections import add_index

K1 = 1.2
ALL = 16_384
WORDS = tuple(f"w{number}" for number in range(8))
Row = Mapping[str, Any]


def add_text(schema: Any) -> None:
    """`text` and, made from it, `terms`."""
    schema.add_field("text", DataType.VARCHAR, max_length=200, nullable=True, enable_analyzer=True, enable_match=True)
    schema.add_field("terms", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["terms"]))


def add_text_index(client: Any, collection: str) -> None:
    add_index(client, collection, "terms", "SPARSE_INVERTED_INDEX", "BM25", bm25_k1=K1, bm25_b=0.0)


def draw_text(numbers: np.random.Generator) -> str | None:
    """Few words, the first of them the most frequent; sometimes none, or NULL."""
    if numbers.random() < 0.15:
        return None
    return " ".join(WORDS[min(place, len(WORDS) - 1)] for place in numbers.geometric(0.3, numbers.integers(0, 7)) - 1)


def draw_filter(rng: random.Random) -> tuple[str, Callable[[Row], bool]]:
    """A filter over words, and whether a row passes it."""
    one, other = rng.sample(WORDS, 2)
    choices: list[tuple[str, Callable[[Row], bool]]] = [
        (f'text_match(text, "{one} {other}")', lambda row: bool({one, other} & set(_words(row)))),
        (
            f'text_match(text, "{one} {other}", minimum_should_match=2)',
            lambda row: {one, other} <= set(_words(row)),
        ),
        (f'not text_match(text, "{one}")', lambda row: row["text"] is not None and one not in _words(row)),
        (f'phrase_match(text, "{one} {other}")', lambda row: f" {one} {other} " in f" {' '.join(_words(row))} "),
        (f'text_match_fuzzy(text, "x{one}", max_edit_distance=1)', lambda row: one in _words(row)),
    ]
    return rng.choice(choices)


def check_words(client: Any, collection: str, rows: Mapping[Any, Row], word: str, **options: Any) -> None:
    """Compares a search for a word; `rows` are all that it may find."""
    asked = {"anns_field": "terms", "limit": ALL, "output_fields": ["text"]}
    (hits,) = client.search(collection, [word], **asked, **options)
    counts = {key: count for key, row in rows.items() if (count := _words(row).count(word))}
    assert sorted(hit["id"] for hit in hits) == sorted(counts), f"{collection} {word} {options}"
    scores = [hit["distance"] for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert all(hit["entity"]["text"] == rows[hit["id"]]["text"] for hit in hits)
    weights = [score / (counts[hit["id"]] / (counts[hit["id"]] + K1)) for score, hit in zip(scores, hits, strict=True)]
    assert np.allclose(weights, weights[:1], rtol=1e-5), f"{collection} {word}: not by how often rows have it"


def _words(row: Row) -> list[str]:
    return (row["text"] or "").split()
