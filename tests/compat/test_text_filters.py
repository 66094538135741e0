"""Filters that match words of texts, and marked words in hits, on a server."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from conftest import Server
from load_calls import estimate, until
from pymilvus import (
    AnnSearchRequest,
    DataType,
    Function,
    FunctionType,
    LexicalHighlighter,
    MilvusClient,
    MilvusException,
    RRFRanker,
)
from sample_collections import add_index

WORDS = ["alpha", "beta", "gamma", "delta", "épée", "東京", "quick", "brown", "fox"]
ROWS, SEALED = 1500, 1200


def _term_bytes(server: Server, name: str) -> int:
    """Memory of the index of `body`'s terms."""
    parts = estimate(server, name)["parts"]
    return next((int(p["measuredBytes"]) for p in parts if p["name"] == "body (terms)"), 0)


def _text(row: int) -> str | None:
    """Every seventh row has NULL, and the words of the others depend on the row alone."""
    chosen = random.Random(row)
    return None if row % 7 == 0 else " ".join(chosen.choice(WORDS) for _ in range(chosen.randint(0, 6)))


@pytest.fixture(scope="module")
def texts(_shared_client: MilvusClient, server: Server) -> Iterator[str]:
    """The sealed rows have an index of their terms. `vec` is near the row's number."""
    client, name = _shared_client, "texts_with_words"
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    matched: dict[str, Any] = {"enable_analyzer": True, "enable_match": True}
    schema.add_field("body", DataType.VARCHAR, max_length=500, nullable=True, **matched)
    stemmed = {"tokenizer": "standard", "filter": ["lowercase", {"type": "stemmer", "language": "english"}]}
    schema.add_field("title", DataType.VARCHAR, max_length=500, analyzer_params=stemmed, **matched)
    schema.add_field("plain", DataType.VARCHAR, max_length=500)
    client.create_collection(name, schema=schema)
    add_index(client, name, "vec", metric="L2")
    client.load_collection(name)
    rows = [{"id": i, "vec": [i, 0], "body": _text(i), "title": f"Running {i}", "plain": "x"} for i in range(ROWS)]
    client.insert(name, rows[:SEALED])
    client.flush(name)
    client.insert(name, rows[SEALED:])
    until(lambda: _term_bytes(server, name) > 0, "the index of the terms to be open")
    yield name
    client.drop_collection(name)


def _ids(keeps: Callable[[list[str]], bool]) -> list[int]:
    """The rows whose words pass."""
    return [i for i in range(ROWS) if (text := _text(i)) is not None and keeps(text.split())]


def _has_phrase(words: list[str], phrase: list[str]) -> bool:
    return any(words[i : i + len(phrase)] == phrase for i in range(len(words)))


FILTERS: Mapping[str, Callable[[list[str]], bool]] = {
    "text_match(body, 'ALPHA fox')": lambda words: bool({"alpha", "fox"} & {*words}),
    "text_match(body, 'épée 東京 nowhere', minimum_should_match=2)": lambda words: {"épée", "東京"} <= {*words},
    "not text_match(body, 'alpha')": lambda words: "alpha" not in words,
    "text_match_fuzzy(body, 'qiuck', max_edit_distance=1)": lambda words: "quick" in words,
    "phrase_match(body, 'quick brown')": lambda words: _has_phrase(words, ["quick", "brown"]),
    "phrase_match(body, 'beta beta') or text_match(body, 'gamma')": lambda words: (
        "gamma" in words or _has_phrase(words, ["beta", "beta"])
    ),
}


@pytest.mark.parametrize("text", FILTERS)
def test_sealed_and_growing_rows_are_matched_alike(client: MilvusClient, texts: str, text: str) -> None:
    expected = _ids(FILTERS[text])
    assert expected
    assert any(i < SEALED for i in expected)
    assert any(i >= SEALED for i in expected)
    assert [row["id"] for row in client.query(texts, text, output_fields=["id"])] == expected
    assert client.query(texts, text, output_fields=["count(*)"]) == [{"count(*)": len(expected)}]
    hits = client.search(texts, [[0, 0]], limit=ROWS, filter=text)[0]
    assert [hit["id"] for hit in hits] == expected


def test_each_field_has_its_own_analyzer(client: MilvusClient, texts: str) -> None:
    counted = client.query(texts, "text_match(title, 'runs')", output_fields=["count(*)"])
    assert counted == [{"count(*)": ROWS}]
    assert client.query(texts, "text_match(body, 'foxes')") == []


def test_a_template_gives_the_words(client: MilvusClient, texts: str) -> None:
    expected = _ids(lambda words: "fox" in words)
    found = client.query(texts, "text_match(body, {words})", filter_params={"words": "Fox"})
    assert [row["id"] for row in found] == expected


def test_a_hybrid_search_matches_words_in_each_of_its_searches(client: MilvusClient, texts: str) -> None:
    searches = [
        AnnSearchRequest([[0, 0]], "vec", {}, ROWS, expr=f"text_match(body, '{word}')") for word in ("alpha", "fox")
    ]
    hits = client.hybrid_search(texts, searches, RRFRanker(), limit=ROWS)[0]
    assert sorted(hit["id"] for hit in hits) == _ids(lambda words: bool({"alpha", "fox"} & {*words}))


def test_matched_rows_are_deleted(client: MilvusClient, collection_name: str) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("body", DataType.VARCHAR, max_length=99, enable_analyzer=True, enable_match=True)
    client.create_collection(collection_name, schema=schema)
    add_index(client, collection_name, "vec")
    client.load_collection(collection_name)
    bodies = ["red apple", "green apple", "green pear"]
    client.insert(collection_name, [{"id": i, "vec": [i, 1], "body": body} for i, body in enumerate(bodies)])
    client.delete(collection_name, filter="phrase_match(body, 'green apple')")
    assert [row["id"] for row in client.query(collection_name, "id >= 0")] == [0, 2]
    client.flush(collection_name)
    client.upsert(collection_name, [{"id": 2, "vec": [2, 1], "body": "green apple"}])
    assert [row["id"] for row in client.query(collection_name, "text_match(body, 'apple')")] == [0, 2]
    assert client.query(collection_name, "text_match(body, 'pear')") == []


def test_the_index_of_terms_is_not_among_the_indexes_of_callers(client: MilvusClient, texts: str) -> None:
    assert client.list_indexes(texts) == ["vec"]
    add_index(client, texts, "body", "INVERTED", metric="")
    assert client.list_indexes(texts) == ["vec", "body"]
    client.drop_index(texts, "body")
    client.drop_index(texts, "body (terms)")
    expected = _ids(lambda words: "fox" in words)
    assert [row["id"] for row in client.query(texts, "text_match(body, 'fox')")] == expected


@pytest.mark.one_process("it compares the memory of one replica in one process")
def test_the_index_of_terms_is_kept_over_a_restart(new_server: Callable[..., Server]) -> None:
    server = new_server()
    client = server.client()
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=2)
    client.create_collection("texts", schema=schema)
    matched: dict[str, Any] = {"nullable": True, "enable_analyzer": True, "enable_match": True}
    client.add_collection_field("texts", "body", DataType.VARCHAR, max_length=500, **matched)
    add_index(client, "texts", "vec")
    client.load_collection("texts")
    client.insert("texts", [{"id": i, "vec": [i, 0], "body": _text(i)} for i in range(ROWS)])
    client.flush("texts")
    until(lambda: _term_bytes(server, "texts") > 0, "the index of the terms to be open")
    held = _term_bytes(server, "texts")
    client.close()
    server.stop()
    checked = subprocess.run([sys.executable, "-m", "milvine", "check", str(server.data_dir)], check=False)
    assert checked.returncode == 0
    server.start()
    assert _term_bytes(server, "texts") == held
    found = server.client().query("texts", "phrase_match(body, 'quick brown')", output_fields=["id"])
    assert [row["id"] for row in found] == _ids(FILTERS["phrase_match(body, 'quick brown')"])


def test_a_field_without_match_is_refused(client: MilvusClient, texts: str) -> None:
    with pytest.raises(MilvusException, match='field "plain" does not enable match') as refused:
        client.query(texts, "text_match(plain, 'x')")
    assert refused.value.code == 1100


def _marked(client: MilvusClient, name: str, row: int, highlighter: LexicalHighlighter) -> Mapping[str, Any]:
    hits = client.search(name, [[row, 0]], limit=1, output_fields=["body"], highlighter=highlighter)
    found: Mapping[str, Any] = hits[0][0]["highlight"]
    return found


def test_words_are_marked_in_hits(client: MilvusClient, texts: str) -> None:
    row = next(i for i in _ids(lambda words: words[:1] == ["épée"] and len(words) > 2))
    words = (_text(row) or "").split()
    highlighter = LexicalHighlighter(pre_tags=["{"], post_tags=["}"])
    highlighter.with_query("body", "Épée", "TextMatch")
    highlighter.with_query("title", "runs", "TextMatch")
    marked = _marked(client, texts, row, highlighter)
    expected = " ".join(f"{{{word}}}" if word == "épée" else word for word in words)
    assert marked["body"]["fragments"] == [expected]
    assert marked["title"]["fragments"] == [f"{{Running}} {row}"]


def test_a_hit_without_the_words_or_with_null_has_no_fragments(client: MilvusClient, texts: str) -> None:
    highlighter = LexicalHighlighter(highlight_query=[{"type": "TextMatch", "field": "body", "text": "nowhere"}])
    assert _marked(client, texts, 1, highlighter)["body"]["fragments"] == []
    assert _marked(client, texts, 7, highlighter)["body"]["fragments"] == []


def test_the_words_of_a_search_by_text_are_marked_by_the_analyzer_of_each_row(
    client: MilvusClient, collection_name: str
) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("language", DataType.VARCHAR, max_length=9)
    analyzers = {"default": {"tokenizer": "whitespace"}, "en": {"type": "english"}}
    params = {"by_field": "language", "analyzers": analyzers}
    schema.add_field("body", DataType.VARCHAR, max_length=99, enable_analyzer=True, multi_analyzer_params=params)
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(Function("bm25", FunctionType.BM25, ["body"], ["sparse"]))
    client.create_collection(collection_name, schema=schema)
    add_index(client, collection_name, "sparse", "SPARSE_INVERTED_INDEX", "BM25")
    client.load_collection(collection_name)
    rows = [("en", "He runs, she ran: run!"), ("xx", "run runs"), ("en", "walks")]
    client.insert(collection_name, [{"id": i, "language": name, "body": body} for i, (name, body) in enumerate(rows)])
    highlighter = LexicalHighlighter(pre_tags=["<", "{"], post_tags=[">", "}"], highlight_search_text=True)
    found = client.search(
        collection_name,
        ["run", "walking"],
        anns_field="sparse",
        search_params={"metric_type": "BM25", "params": {"analyzer_name": "en"}},
        highlighter=highlighter,
    )
    marked = [{hit["id"]: hit["highlight"]["body"]["fragments"] for hit in hits} for hits in found]
    assert marked == [{0: ["<runs>, she ran: {run}!"], 1: ["<run> runs"]}, {2: ["<walks>"]}]


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"fragment_size": 0}, "invalid fragment_size: 0: invalid parameter"),
        ({"fragment_offset": -1}, "invalid fragment_offset: -1: invalid parameter"),
        ({"num_of_fragments": 0.1}, "invalid num_of_fragments: 0.1: invalid parameter"),
        ({"pre_tags": []}, "pre_tags cannot be empty list: invalid parameter"),
        ({"post_tags": [1]}, "unmarshal post_tags as string list failed"),
        (
            {"highlight_search_text": True},
            'Search highlight only support with metric type "BM25" but was: : invalid parameter',
        ),
        ({"highlight_query": [{"type": "TextMatch", "text": "x"}]}, "must set `field` in query"),
        (
            {"highlight_query": [{"type": "Fuzzy", "field": "body", "text": "x"}]},
            "invalid highlight query type: Fuzzy",
        ),
        (
            {"highlight_query": [{"type": "TextMatch", "field": "nope", "text": "x"}]},
            "highlight field not found in schema: nope",
        ),
        (
            {"highlight_query": [{"type": "TextMatch", "field": "plain", "text": "x"}]},
            "get highlight failed, the highlight field not found, plain:104",
        ),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_wrong_highlighter_is_refused(client: MilvusClient, texts: str, params: Any, reason: str) -> None:
    with pytest.raises(MilvusException) as refused:
        client.search(texts, [[0, 0]], limit=1, highlighter=LexicalHighlighter(**params))
    assert refused.value.code == 1100
    assert reason in refused.value.message
