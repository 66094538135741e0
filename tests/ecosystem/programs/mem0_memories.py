"""mem0's Milvus store by its default settings: dense vectors, text, BM25; add, search, keyword search, update."""

import logging
import sys

from mem0.configs.vector_stores.milvus import MetricType
from mem0.vector_stores.milvus import MilvusDB

logging.basicConfig(level=logging.ERROR)
TEXTS = {
    "a": "Alice likes green tea in the morning",
    "b": "Bob drives an old red tractor",
    "c": "Carol plants tomatoes and green beans",
}
VECTORS = {"a": [1.0, 0.0, 0.0, 0.0], "b": [0.0, 1.0, 0.0, 0.0], "c": [0.0, 0.0, 1.0, 0.0]}


def main(uri: str) -> None:
    store = MilvusDB(
        url=uri,
        token="",
        collection_name="mem0",
        embedding_model_dims=4,
        metric_type=MetricType.COSINE,
        db_name="",
    )
    payloads = [{"data": text, "user_id": "u" if key != "b" else "v"} for key, text in TEXTS.items()]
    store.insert(list(TEXTS), list(VECTORS.values()), payloads)

    assert [found.id for found in store.search("", [0.9, 0.1, 0.0, 0.0], top_k=1)] == ["a"]
    found = store.keyword_search("green", top_k=5)
    assert found is not None, "the server refused the keyword search"
    assert {one.id for one in found} == {"a", "c"}
    assert found[0].score >= found[1].score > 0
    only_v = store.keyword_search("tractor green", top_k=5, filters={"user_id": "v"})
    assert only_v is not None
    assert [one.id for one in only_v] == ["b"]

    store.update("b", [0.0, 1.0, 0.0, 0.0], {"data": "Bob sold the tractor and keeps bees", "user_id": "v"})
    bees = store.keyword_search("bees", top_k=5)
    assert bees is not None
    assert [one.id for one in bees] == ["b"]
    store.delete("c")
    left = store.keyword_search("green", top_k=5)
    assert left is not None
    assert [one.id for one in left] == ["a"]
    kept = store.get("a")
    assert kept.payload["data"] == TEXTS["a"]
    assert {one.id for one in store.list(filters={"user_id": "u"}, top_k=10)[0]} == {"a"}

    again = MilvusDB(
        url=uri, token="", collection_name="mem0", embedding_model_dims=4, metric_type=MetricType.COSINE, db_name=""
    )
    assert again.keyword_search("tea", top_k=1), "the second client does not see the BM25 fields"
    store.delete_col()
    print("mem0: ok")


main(sys.argv[1])
