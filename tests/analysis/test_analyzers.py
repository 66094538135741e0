"""Terms of texts, as in Milvus's own unit tests and examples."""

from __future__ import annotations

import itertools
import random
import sys
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from milvine.analysis.hashes import term_ids
from milvine.analysis.multi import multi_analyzer_of
from milvine.analysis.phrases import slops
from milvine.analysis.registry import analyzer_of
from milvine.analysis.tantivy_words import simple_tokens
from milvine.errors import AnalyzerInvalid, ParameterInvalid, ParameterTooLarge

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
        "jieba of words alone",
        {"tokenizer": {"type": "jieba", "dict": ["结巴分词器"], "mode": "exact", "hmm": False}},
        "milvus结巴分词器中文测试",
        ["milvus", "结巴分词器", "中", "文", "测", "试"],
    ),
    (
        "jieba with a further word",
        {"tokenizer": {"type": "jieba", "dict": ["_default_", "结巴分词器"], "mode": "search", "hmm": False}},
        "milvus结巴分词器中文测试",
        ["milvus", "结巴", "分词", "分词器", "结巴分词器", "中文", "测试"],
    ),
    (
        "jieba of an empty dictionary",
        {"tokenizer": {"type": "jieba", "dict": ["", "_default_"], "mode": "exact"}},
        "结巴分词器",
        ["结巴", "分词器"],
    ),
    (
        "jieba of no dictionary",
        {"tokenizer": {"type": "jieba", "dict": [], "hmm": False}},
        "测试 ab",
        ["测", "试", " ", "ab"],
    ),
    (
        "jieba of Latin words",
        {"tokenizer": "jieba"},
        "数据库v1.2 a-b10.5kg",
        ["数据", "据库", "数据库", "v1.2", " ", "a", "-", "b10.5", "kg"],
    ),
    ("chinese", {"type": "chinese"}, "系统安全;,'';lxyz密码", ["系统", "安全", "系统安全", "lxyz", "密码"]),
    (
        "icu",
        {"tokenizer": "icu"},
        "for global doc, 中文分词测试, 東京スカイツリーの最寄り駅はとうきょうスカイツリー駅です",
        [
            *(
                "for",
                " ",
                "global",
                " ",
                "doc",
                ",",
                " ",
                "中文",
                "分词",
                "测试",
                ",",
                " ",
                "東京",
                "スカイツリー",
                "の",
            ),
            *("最寄り駅", "は", "とう", "きょう", "スカイツリー", "駅", "です"),
        ],
    ),
    ("thai", {"type": "thai"}, "การทดสอบภาษาไทย ๑๒๓", ["ทดสอบ", "ภาษา", "ไทย", "123"]),
    (
        "the tokenizer thai",
        {"tokenizer": "thai"},
        "สวัสดี! Hello ครับ 中文测试",
        ["สวัสดี", "Hello", "ครับ", "中文测试"],
    ),
    ("arabic", {"type": "arabic"}, "كِتَابٌ عـــربي في ١٢٣", ["كتاب", "عرب", "123"]),
    (
        "lindera",
        {"tokenizer": {"type": "lindera", "dict_kind": "ipadic"}},
        "東京の最寄り駅は とうきょう駅です",
        ["東京", "の", "最寄り駅", "は", " ", "とう", "きょう", "駅", "です"],
    ),
    (
        "lindera with a filter",
        {
            "tokenizer": {
                "type": "lindera",
                "dict_kind": "ipadic",
                "filter": [{"kind": "japanese_stop_tags", "tags": ["接続詞", "助詞", "助詞,格助詞", "助詞,連体化"]}],
            }
        },
        "東京の駅",
        ["東京", "駅"],
    ),
    (
        "lindera in Korean",
        {"tokenizer": {"type": "lindera", "dict_kind": "ko-dic"}},
        "한국어",
        ["한국어"],
    ),
    (
        "a text in English",
        {
            "tokenizer": {
                "type": "language_identifier",
                "analyzers": {"default": {"tokenizer": "standard"}, "en": {"type": "english"}},
                "mapping": {"English": "en"},
            }
        },
        "This is a simple test for language identification.",
        ["simpl", "test", "languag", "identif"],
    ),
    (
        "a text in Mandarin",
        {
            "tokenizer": {
                "type": "language_identifier",
                "identifier": "whatlang",
                "analyzers": {"default": {"tokenizer": "standard"}, "Mandarin": {"tokenizer": "jieba"}},
            }
        },
        "测试中文文本",
        ["测试", "中文", "文本"],
    ),
    (
        "decompounder",
        {"tokenizer": "standard", "filter": [{"type": "decompounder", "word_list": ["bank", "note"]}]},
        "banknote notebook",
        ["bank", "note", "notebook"],
    ),
    (
        "synonym that replaces",
        {
            "tokenizer": "standard",
            "filter": [
                {
                    "type": "synonym",
                    "expand": False,
                    "synonyms": ["trans => translate, \\=>", "\\\\test, test, tests"],
                }
            ],
        },
        "test trans synonym",
        ["\\test", "translate", "=>", "synonym"],
    ),
    (
        "synonym that adds",
        {
            "tokenizer": "standard",
            "filter": [{"type": "synonym", "synonyms": ["distance, range, span, length", "interval => gap"]}],
        },
        "distance interval",
        ["distance", "range", "span", "length", "interval", "gap"],
    ),
    ("pinyin", {"tokenizer": "jieba", "filter": ["pinyin"]}, "中文女", ["中文", "zhong", "wen", "女", "nü"]),
    (
        "pinyin of whole words",
        {
            "tokenizer": "jieba",
            "filter": [
                {
                    "type": "pinyin",
                    "keep_original": False,
                    "keep_full_pinyin": False,
                    "keep_joined_full_pinyin": True,
                    "keep_separate_first_letter": True,
                }
            ],
        },
        "中文测试 a",
        ["zhongwen", "zw", "ceshi", "cs"],
    ),
    (
        "regex that looks ahead",
        {"tokenizer": "standard", "filter": [{"type": "regex", "expr": "^(?!test)"}]},
        "test milvus",
        ["milvus"],
    ),
    (
        "regex of a class",
        {"tokenizer": "whitespace", "filter": [{"type": "regex", "expr": r"^\w+$"}]},
        "é a-b c",
        ["é", "c"],
    ),
    (
        "regex",
        {"tokenizer": "standard", "filter": [{"type": "regex", "expr": "^m"}]},
        "test milvus",
        ["milvus"],
    ),
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
    texts = ["".join(rng.choices(letters, k=rng.randrange(12))) for _ in range(60)]
    synonyms = {"type": "synonym", "synonyms": ["b => x, y, z", "a, c"]}
    by_language = {"type": "language_identifier", "analyzers": {"default": {}, "Mandarin": {"tokenizer": "icu"}}}
    for params in (
        None,
        {"type": "english"},
        {"tokenizer": "whitespace", "filter": ["removepunct"]},
        {"tokenizer": "icu", "filter": ["lowercase", synonyms]},
        {"tokenizer": "jieba", "filter": ["pinyin"]},
        {"tokenizer": {"type": "lindera", "dict_kind": "cc-cedict"}},
        {"tokenizer": by_language},
    ):
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
        ({"tokenizer": {"type": "jieba", "dict": "x"}}, "InvalidArgument: jieba tokenizer dict must be array"),
        ({"tokenizer": {"type": "jieba", "dict": [1]}}, "InvalidArgument: jieba tokenizer dict item must be string"),
        (
            {"tokenizer": {"type": "jieba", "dict": ["_default_", "_extend_default_"]}},
            "jieba tokenizer dict can only set one system dict",
        ),
        ({"tokenizer": {"type": "jieba", "dict": ["_extend_default_"]}}, "add jieba's dict.txt.big as a file resource"),
        ({"tokenizer": {"type": "jieba", "mode": 1}}, "jieba tokenizer mode must be string"),
        ({"tokenizer": {"type": "jieba", "mode": "x"}}, 'jieba tokenizer mode must be "exact" or "search"'),
        ({"tokenizer": {"type": "jieba", "hmm": 1}}, "jieba tokenizer mode must be boolean"),
        ({"tokenizer": {"type": "lindera"}}, "lindera tokenizer dict_kind must be set"),
        ({"tokenizer": {"type": "lindera", "dict_kind": "x"}}, "unsupported lindera dict type: x"),
        ({"tokenizer": {"type": "lindera", "dict_kind": "unidic"}}, "then pip install lindera-python-unidic"),
        ({"tokenizer": {"type": "lindera", "dict_kind": "ipadic-neologd"}}, "is in no Python package"),
        ({"tokenizer": {"type": "lindera", "dict_kind": "ipadic", "mode": "x"}}, 'must be "normal" or "decompose"'),
        (
            {"tokenizer": {"type": "lindera", "dict_kind": "ipadic", "filter": ["korean_stop_tags"]}},
            "lindera korean stop tags filter must use with params",
        ),
        ({"tokenizer": {"type": "grpc", "endpoint": "http://x"}}, "not supported by this version of Milvine"),
        ({"tokenizer": "language_identifier"}, "lang ident tokenizer must be customized"),
        ({"tokenizer": {"type": "language_identifier"}}, "analyzers must be set"),
        (
            {"tokenizer": {"type": "language_identifier", "analyzers": {}}},
            "default sub analyzer for language identifier analyzer must be set",
        ),
        (
            {"tokenizer": {"type": "language_identifier", "identifier": "x", "analyzers": {"default": {}}}},
            "unknown identifier name: x",
        ),
        (
            {"tokenizer": {"type": "language_identifier", "analyzers": {"default": {"tokenizer": "x"}}}},
            "unsupported tokenizer: x",
        ),
        ({"tokenizer": "standard", "filter": [{"type": "decompounder"}]}, "decompounder word list is empty"),
        ({"tokenizer": "standard", "filter": [{"type": "regex"}]}, "must set expr for regex filter"),
        (
            {"tokenizer": "standard", "filter": [{"type": "regex", "expr": "("}]},
            "regex expression invalid, expr:(, err:",
        ),
        (
            {"tokenizer": "standard", "filter": [{"type": "pinyin", "keep_original": 1}]},
            "keep_original must be a boolean",
        ),
        (
            {"tokenizer": "standard", "filter": [{"type": "synonym", "synonyms": ["a b"]}]},
            "has space between words a b",
        ),
        ({"tokenizer": "standard", "filter": [{"type": "synonym", "synonyms": ["a=>b=>c"]}]}, 'more than one "=>"'),
        ({"tokenizer": "standard", "filter": [{"type": "synonym", "synonyms": ["a\\"]}]}, "escaped in the end: a"),
        (
            {"tokenizer": "standard", "filter": [{"type": "synonym", "synonyms": ["\\x"]}]},
            "invalid synonym escaped: \\x",
        ),
        (
            {"tokenizer": "standard", "filter": [{"type": "stop", "stop_words_file": {"type": "local"}}]},
            "InvalidArgument: file path of local file `stop words dict file` must be set",
        ),
        (
            {"tokenizer": "standard", "filter": [{"type": "stop", "stop_words_file": {"type": "local", "path": 1}}]},
            "InvalidArgument: file path of local file `stop words dict file` must be string",
        ),
        (
            {"tokenizer": "standard", "filter": [{"type": "stop", "stop_words_file": {"type": "local", "path": "/x"}}]},
            "a local file (stop words dict file) is not supported by this version of Milvine",
        ),
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


def test_an_absent_library_is_named_in_the_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lingua", None)
    with pytest.raises(AnalyzerInvalid, match=r"lingua-language-detector.*pip install 'milvine\[lingua\]'"):
        analyzer_of(
            {"tokenizer": {"type": "language_identifier", "identifier": "lingua", "analyzers": {"default": {}}}}
        )


def test_places_are_characters_where_a_library_cuts() -> None:
    terms = analyzer_of({"tokenizer": "icu"}).terms(["🙂 a😀b", "คน"])
    assert terms.tokens.to_pylist() == ["🙂", " ", "a", "😀", "b", "คน"]
    assert terms.positions.tolist() == [0, 1, 2, 3, 4, 0]
    assert terms.starts.tolist() == [0, 4, 5, 6, 10, 0]
    assert terms.lengths.tolist() == [1, 1, 1, 1, 1, 2]


def test_sounds_stand_at_the_places_of_their_characters() -> None:
    terms = analyzer_of({"tokenizer": "jieba", "filter": ["pinyin"]}).terms(["中文测试"])
    assert terms.tokens.to_pylist() == ["中文", "zhong", "wen", "测试", "ce", "shi"]
    assert terms.positions.tolist() == [0, 0, 1, 2, 2, 3]
    assert terms.lengths.tolist() == [2, 1, 1, 2, 1, 1]
    assert terms.ends.tolist() == [6, 6, 6, 12, 12, 12]


@pytest.mark.parametrize(
    ("params", "phrase", "text", "slop"),
    [
        (None, "I like swimming and skiing", "x " * 10 + "Skiing and swimming are sports that I like the most.", 10),
        ({"tokenizer": "jieba"}, "中文 测试", "测试 的 中文", 8),
        (None, "hello world", "hello world", 0),
        (None, "hello world", "hello there", None),
        (None, "...", "some data", 0),
        (None, "A B", "A C D E B F G A B", 0),
        (None, "A B A", "A B A", 0),
        (None, "A C", "A B C", 1),
    ],
)
def test_the_slop_of_a_phrase_is_that_of_milvus(params: Any, phrase: str, text: str, slop: int | None) -> None:
    assert slops(analyzer_of(params), phrase, ["", text, "nothing"])[1] == slop


def test_slops_agree_with_trying_every_combination() -> None:
    rng = random.Random(3)
    for _ in range(100):
        phrase, text = (" ".join(rng.choices("abc", k=count)) for count in (3, rng.randrange(8)))
        wanted = phrase.split()
        choices = [[at + 2 - i for at, word in enumerate(text.split()) if word == w] for i, w in enumerate(wanted)]
        ranges = [max(places) - min(places) for places in itertools.product(*choices)]
        assert slops(analyzer_of(None), phrase, [text]) == [min(ranges, default=None)]


def test_a_batch_of_many_blocks_has_the_terms_of_each_text(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a bb", None, "ccc é", "", "dddd" * 9, "e"] * 4
    analyzer = analyzer_of({"tokenizer": "whitespace", "filter": [{"type": "synonym", "synonyms": ["e => f, g"]}]})
    whole = analyzer.terms(texts)
    monkeypatch.setattr("milvine.analysis.analyzer._BLOCK_BYTES", 7)
    for found, wanted in zip(analyzer.terms(texts), whole, strict=True):
        assert found.tolist() == wanted.tolist()
    assert analyzer.tokens(texts)[0].tolist() == whole.offsets.tolist()


def test_a_stem_does_not_depend_on_the_other_words() -> None:
    analyzer = analyzer_of({"tokenizer": "icu", "filter": [{"type": "stemmer", "language": "english"}]})
    words = [f"running{chr(97 + i % 26)} {i} jumps\u2003" for i in range(200)]
    alone = [token for word in words for token in analyzer.terms([word]).tokens.to_pylist()]
    assert analyzer.terms(words).tokens.to_pylist() == alone


def test_too_many_terms_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milvine.analysis.filters.base.MAX_TERMS", 5)
    analyzer = analyzer_of({"tokenizer": "standard", "filter": [{"type": "synonym", "synonyms": ["a => b, c, d"]}]})
    assert analyzer.terms(["a"]).tokens.to_pylist() == ["a", "b", "c", "d"]
    with pytest.raises(ParameterTooLarge, match="more than 5 terms"):
        analyzer.tokens(["a a"])


def test_an_expression_that_tries_too_much_keeps_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milvine.analysis.filters.regex._SECONDS_FOR_A_WORD", 0.01)
    monkeypatch.setattr("milvine.analysis.filters.regex._MAX_STOPPED", 2)
    analyzer = analyzer_of({"tokenizer": "standard", "filter": [{"type": "regex", "expr": r"^(?=(a|aa)+$)\w"}]})
    hard = ["a" * 60 + f"b{i}" for i in range(100)]
    assert analyzer.terms(["b", "aa", *hard]).tokens.to_pylist() == ["aa", *hard]
