"""Full text search in English, Chinese, Japanese, German, mixed texts and emoji, growing, sealed and by filters."""

from __future__ import annotations

from typing import Any

import pytest
from load_calls import until
from pymilvus import DataType, Function, FunctionType, MilvusClient
from sample_collections import add_index

COMPOUNDS = {
    "tokenizer": "standard",
    "filter": ["lowercase", {"type": "decompounder", "word_list": ["donau", "dampf", "schiff", "fahrt"]}],
}
LANGUAGES: dict[str, tuple[dict[str, Any], list[str], dict[str, list[int]]]] = {
    "English": (
        {"type": "english"},
        ["The foxes were running through the woods", "A hen sleeps", "Wood burns well"],
        {"fox": [0], "run in a wood": [0, 2], "the": []},
    ),
    "Chinese": (
        {"type": "chinese"},
        ["我来到北京清华大学", "向量数据库支持全文检索", "北京的天气"],
        {"北京": [0, 2], "数据库": [1], "大学": [0]},
    ),
    "Japanese": (
        {"tokenizer": {"type": "lindera", "dict_kind": "ipadic"}},
        ["東京都に住んでいます", "京都は美しい街です", "寿司を食べる"],
        {"東京": [0], "京都": [1], "寿司": [2]},
    ),
    "German": (
        COMPOUNDS,
        ["Donaudampfschifffahrt", "Das Schiff fährt", "Die Donau fließt"],
        {"schiff": [0, 1], "Donau": [0, 2], "fährt": [1]},
    ),
    "mixed": (
        {"tokenizer": "icu", "filter": ["lowercase"]},
        ["Milvus 向量数据库 rocks", "café ☕ and 🦊 in the Wald", "плюс ещё один text"],
        {"milvus": [0], "数据库": [0], "café": [1], "плюс": [2], "text": [2]},
    ),
    "emoji": (
        {"tokenizer": "whitespace"},
        ["a 🦊 runs", "👩‍👩‍👧 walk", "🦊 🦊 sleep"],
        {"🦊": [0, 2], "👩‍👩‍👧": [1], "👩": []},
    ),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_of_a_language_are_found(client: MilvusClient, collection_name: str, language: str) -> None:
    params, texts, queries = LANGUAGES[language]
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    options: dict[str, Any] = {"enable_analyzer": True, "enable_match": True, "analyzer_params": params}
    schema.add_field("text", DataType.VARCHAR, max_length=200, **options)
    schema.add_field("terms", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["terms"]))
    client.create_collection(collection_name, schema=schema, consistency_level="Strong")
    add_index(client, collection_name, "terms", "AUTOINDEX", "BM25")
    client.load_collection(collection_name)
    client.insert(collection_name, [{"id": key, "text": text} for key, text in enumerate(texts)])
    for _ in range(2):
        for query, wanted in queries.items():
            hits = client.search(collection_name, [query], anns_field="terms", limit=9)[0]
            assert sorted(hit["id"] for hit in hits) == wanted, query
            rows = client.query(collection_name, f'text_match(text, "{query}")', output_fields=["id"])
            assert sorted(row["id"] for row in rows) == wanted, query
        client.flush(collection_name)
        until(lambda: client.describe_index(collection_name, "terms")["pending_index_rows"] == 0, "not indexed")
