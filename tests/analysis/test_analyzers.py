"""Terms of texts, as in Milvus's own unit tests and examples."""

from __future__ import annotations

import random
import sys
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from milvine.analysis.hashes import term_ids
from milvine.analysis.multi import multi_analyzer_of
from milvine.analysis.registry import analyzer_of
from milvine.analysis.tantivy_words import simple_tokens
from milvine.errors import AnalyzerInvalid, ParameterInvalid

EXAMPLES: list[tuple[str, Any, str, list[str]]] = [
    ("nothing means standard", None, "Milvus Vector-Database 2.6!", ["milvus", "vector", "database", "2", "6"]),
    ("standard", {"type": "standard"}, "The CAFÉ, a naïve one", ["the", "café", "a", "naïve", "one"]),
    (
        "standard with its own stop words",
        {"type": "standard", "stop_words": ["_english_", "one"]},
        "This is the first one",
        ["first"],
    ),
    ("english", {"type": "english"}, "The running dogs were jumping", ["run", "dog", "were", "jump"]),
    (
        "english with its own stop words",
        {"type": "english", "stop_words": ["a", "an", "for"]},
        "Milvus is a vector database built for scale!",
        ["milvus", "vector", "databas", "built", "scale"],
    ),
    ("whitespace", {"tokenizer": "whitespace"}, "a-b \t c,d\u3000e", ["a-b", "c,d\u3000e"]),
    (
        "char_group",
        {"tokenizer": {"type": "char_group", "delimiters": ["o", "punctuation", "digit", "，"]}},
        "testotest,test1test",
        ["test", "test", "test", "test"],
    ),
    (
        "char_group of letters",
        {"tokenizer": {"type": "char_group", "delimiters": ["letter", "symbol"]}},
        "1a2é3$4",
        ["1", "2", "3", "4"],
    ),
    (
        "stop",
        {
            "tokenizer": "standard",
            "filter": [{"type": "stop", "stop_words": ["this", "is", "a", "of", "the", "in", "an"]}],
        },
        "this is a simple test of the stop words filter in an indexing system",
        ["simple", "test", "stop", "words", "filter", "indexing", "system"],
    ),
    ("length", {"tokenizer": "standard", "filter": [{"type": "length", "max": 3}]}, "one three éa éaa", ["one", "éa"]),
    (
        "asciifolding",
        {"tokenizer": "standard", "filter": ["asciifolding"]},
        "Añasco Œuvre x",
        ["Anasco", "OEuvre", "x"],
    ),
    ("alphanumonly", {"tokenizer": "whitespace", "filter": ["alphanumonly"]}, "abc a-b 12 é", ["abc", "12"]),
    ("removepunct", {"tokenizer": "whitespace", "filter": ["removepunct"]}, "ab a,b 。 c", ["ab", "c"]),
    ("cncharonly", {"tokenizer": "whitespace", "filter": ["cncharonly"]}, "数据 ab 数a 12", ["数据", "数a"]),
    (
        "cnalphanumonly",
        {"tokenizer": "whitespace", "filter": ["cnalphanumonly"]},
        "数据 ab ... é 12",
        ["数据", "ab", "12"],
    ),
    (
        "decimaldigit",
        {"tokenizer": "standard", "filter": ["decimaldigit"]},
        "price ١٢٣ baht ๔๕๖",
        ["price", "123", "baht", "456"],
    ),
    (
        "hamza",
        {"tokenizer": "standard", "filter": ["arabic_normalization"]},
        "أحمد إسلام آمن",
        ["احمد", "اسلام", "امن"],
    ),
    ("teh marbuta", {"tokenizer": "standard", "filter": ["arabic_normalization"]}, "مدرسة", ["مدرسه"]),
    ("tatweel", {"tokenizer": "standard", "filter": ["arabic_normalization"]}, "عـــربي", ["عربي"]),
    (
        "stemmer",
        {"tokenizer": "standard", "filter": ["lowercase", {"type": "stemmer", "language": "German"}]},
        "Häuser aufeinander",
        ["haus", "aufeinand"],
    ),
]


def _tokens(params: Any, text: str) -> list[str]:
    return list(analyzer_of(params).terms([text]).tokens.to_pylist())


@pytest.mark.parametrize(("params", "text", "expected"), [e[1:] for e in EXAMPLES], ids=[e[0] for e in EXAMPLES])
def test_a_text_has_the_terms_of_milvus(params: Any, text: str, expected: list[str]) -> None:
    assert _tokens(params, text) == expected


def test_the_terms_of_many_texts_are_those_of_each_text_alone() -> None:
    rng = random.Random(14)
    letters = "ab Z9,.é数据 🙂ก้ाİ"
    texts = ["".join(rng.choices(letters, k=rng.randrange(12))) for _ in range(300)]
    for params in (None, {"type": "english"}, {"tokenizer": "whitespace", "filter": ["removepunct"]}):
        analyzer = analyzer_of(params)
        together = analyzer.terms(pa.array([None, *texts]).slice(1))
        offsets, tokens = analyzer.tokens(texts)
        assert tokens.equals(together.tokens)
        assert offsets.tolist() == together.offsets.tolist()
        for row, text in enumerate(texts):
            alone = analyzer.terms([text])
            part = slice(*together.offsets[row : row + 2])
            assert together.tokens[part].to_pylist() == alone.tokens.to_pylist()
            for column in ("positions", "lengths", "starts", "ends"):
                assert getattr(together, column)[part].tolist() == getattr(alone, column).tolist()


def test_standard_splits_every_character_as_tantivy() -> None:
    text = " ".join(chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    terms = analyzer_of({"tokenizer": "standard"}).terms([text])
    assert terms.tokens.to_pylist() == simple_tokens(text)


def test_places_are_bytes_and_dropped_terms_leave_gaps() -> None:
    terms = analyzer_of({"type": "standard", "stop_words": ["is"]}).terms(["数据 is É", None, "is", "x"])
    assert terms.offsets.tolist() == [0, 2, 2, 2, 3]
    assert terms.tokens.to_pylist() == ["数据", "é", "x"]
    assert terms.positions.tolist() == [0, 2, 0]
    assert terms.starts.tolist() == [0, 10, 0]
    assert terms.ends.tolist() == [6, 12, 1]
    assert terms.lengths.tolist() == [1, 1, 1]


def test_lowercase_is_that_of_rust_character_by_character() -> None:
    capitals = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).lower() != chr(code)]
    terms = analyzer_of({"tokenizer": "whitespace", "filter": ["lowercase"]}).terms(capitals)
    assert terms.tokens.to_pylist() == [capital.lower() for capital in capitals]
    assert _tokens(None, "ΣΑΣ") == ["σασ"]


def test_a_term_id_is_the_checksum_of_its_first_100_bytes() -> None:
    tokens = ["milvus", "é" * 80, "", "milvus"]
    expected = [zlib.crc32(token.encode()[:100]) % (2**32 - 1) for token in tokens]
    assert term_ids(pa.array(tokens)).tolist() == expected
    assert term_ids(pa.array(tokens)).dtype == np.uint32
    assert term_ids(pa.array([], pa.string())).tolist() == []


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ("{", "JsonError"),
        ("[]", "JsonError"),
        ({"tokenizer": "Unsupported"}, "InvalidArgument: unsupported tokenizer: Unsupported"),
        ({"tokenizer": 123}, "InternalError: tokenizer name should be string or dict"),
        ({"tokenizer": None}, "InternalError: tokenizer name should be string or dict"),
        ({"tokenizer": {}}, "InvalidArgument: customized tokenizer must set type"),
        ({"tokenizer": {"type": None}}, "InvalidArgument: tokenizer type should be string"),
        ({"filter": ["lowercase"]}, "InternalError: tokenizer name or type must be set"),
        ({"tokenizer": "standard", "filter": "lowercase"}, "InternalError: filter params should be array"),
        ({"tokenizer": "standard", "filter": ["x"]}, "InternalError: build analyzer failed, filter not found :x"),
        ({"tokenizer": "standard", "filter": [{"max": 1}]}, "InternalError: no type field in filter params"),
        ({"tokenizer": "standard", "filter": [{"type": None}]}, "InternalError: filter type should be string"),
        ({"tokenizer": "standard", "filter": [{"type": "x"}]}, "InternalError: unsupport filter type: x"),
        ({"tokenizer": "standard", "stop": []}, "InternalError: unknown analyzer option key: stop"),
        ({"type": "klingon"}, "InternalError: unknown build-in analyzer type: klingon"),
        ({"type": 1}, "InternalError: analyzer type should be string"),
        ({"type": "standard", "stop_words": "a"}, "InternalError: filter stop_words should be array"),
        (
            {"tokenizer": "standard", "filter": [{"type": "stop", "stop_words": [1]}]},
            "stop_words list item should be string",
        ),
        (
            {"tokenizer": "standard", "filter": [{"type": "length"}]},
            "InternalError: lenth max param was none or not uint",
        ),
        ({"tokenizer": "standard", "filter": [{"type": "stemmer", "language": "x"}]}, "unsupport language: x"),
        ({"tokenizer": {"type": "char_group", "delimiters": ["xy"]}}, "xy not a char or name of build-in char group"),
        ({"tokenizer": "char_group"}, "InvalidArgument: char group tokenizer must be customized"),
    ],
)
def test_wrong_parameters_are_refused_in_the_words_of_milvus(params: Any, reason: str) -> None:
    with pytest.raises(AnalyzerInvalid) as refused:
        analyzer_of(params)
    assert reason in refused.value.message
    assert refused.value.code == 2000


def test_each_text_is_read_by_the_analyzer_that_its_row_names() -> None:
    several = multi_analyzer_of(
        '{"by_field": "language", "analyzers": {"default": {"tokenizer": "whitespace"}, "en": {"type": "english"}},'
        ' "alias": {"english": "en"}}'
    )
    texts, names = ["The Dogs", "The Dogs", None, "the dogs!", "Dogs"], ["english", "xx", "en", None, "en"]
    terms = several.terms(texts, names)
    assert several.by_field == "language"
    assert terms.offsets.tolist() == [0, 1, 3, 3, 5, 6]
    assert terms.tokens.to_pylist() == ["dog", "The", "Dogs", "the", "dogs!", "dog"]
    assert terms.positions.tolist() == [1, 0, 1, 0, 1, 0]
    offsets, tokens = several.tokens(texts, names)
    assert offsets.tolist() == terms.offsets.tolist()
    assert tokens.equals(terms.tokens)
    assert several.tokens([], [])[1].to_pylist() == []


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ("{}", "multi analyzer params now must set by_field to specify with field decide analyzer"),
        ('{"by_field": 1}', "multi analyzer params by_field must be string but now: 1"),
        ('{"by_field": "f", "alias": [1]}', "multi analyzer alias must be string map but now: [1]"),
        ('{"by_field": "f"}', "multi analyzer params must set analyzers "),
        ('{"by_field": "f", "analyzers": {}}', "multi analyzer must set default analyzer for all unknown value"),
        ('{"by_field": "f", "analyzers": []}', "unmarshal analyzers failed"),
        ("[", "multi_analyzer_params is not JSON"),
    ],
)
def test_wrong_multi_analyzer_parameters_are_refused(params: str, reason: str) -> None:
    with pytest.raises(ParameterInvalid, match="^" + reason.replace("[", r"\[")):
        multi_analyzer_of(params)
