"""What frameworks call for full text beside vectors: the same calls of pymilvus, in the same order."""

from __future__ import annotations

import json
import uuid
from typing import Any

from conftest import Server
from pymilvus import (
    AnnSearchRequest,
    Collection,
    CollectionSchema,
    DataType,
    FieldSchema,
    Function,
    FunctionType,
    MilvusClient,
    RRFRanker,
    WeightedRanker,
    connections,
)

TEXTS = ["a red fox runs", "the blue hen sleeps", "red hens and red foxes", "green owls"]


def vector(number: int) -> list[float]:
    return [float(number), 1.0, 0.0, 0.0]


def test_langchain_keeps_texts_with_vectors_and_searches_both(server: Server, collection_name: str) -> None:
    """langchain-milvus: `Milvus(builtin_function=BM25BuiltInFunction(), vector_field=["dense", "sparse"])`."""
    alias = uuid.uuid4().hex
    connections.connect(alias=alias, uri=server.uri)
    fields = [
        FieldSchema("text", DataType.VARCHAR, max_length=65535, enable_analyzer=True),
        FieldSchema("pk", DataType.INT64, is_primary=True, auto_id=True),
        FieldSchema("dense", DataType.FLOAT_VECTOR, dim=4),
        FieldSchema("sparse", DataType.SPARSE_FLOAT_VECTOR),
        FieldSchema("source", DataType.VARCHAR, max_length=65535),
    ]
    made = Function(
        name=f"bm25_function_{uuid.uuid4().hex[:8]}",
        input_field_names="text",
        output_field_names="sparse",
        function_type=FunctionType.BM25,
    )
    schema = CollectionSchema(fields, functions=[made], enable_dynamic_field=False)
    collection = Collection(collection_name, schema, consistency_level="Session", using=alias)
    collection.create_index("dense", {"metric_type": "L2", "index_type": "AUTOINDEX", "params": {}}, using=alias)
    collection.create_index("sparse", {"metric_type": "BM25", "index_type": "AUTOINDEX", "params": {}}, using=alias)
    collection.load()
    rows = [{"text": t, "dense": vector(n), "source": f"s{n % 2}"} for n, t in enumerate(TEXTS)]
    keys = collection.insert(rows).primary_keys
    outputs = [f.name for f in collection.schema.fields if f.name not in ("dense", "sparse")]
    found = collection.search(
        data=["red fox"],
        anns_field="sparse",
        param={"metric_type": "BM25", "params": {}},
        limit=4,
        output_fields=outputs,
    )[0]
    assert [hit.entity.get("text") for hit in found] == [TEXTS[0], TEXTS[2]]
    asked = [
        AnnSearchRequest([vector(3)], "dense", {"metric_type": "L2", "params": {}}, limit=4, expr='source == "s1"'),
        AnnSearchRequest(["blue hen"], "sparse", {"metric_type": "BM25", "params": {}}, limit=4, expr='source == "s1"'),
    ]
    for ranker in (RRFRanker(), WeightedRanker(0.1, 0.9)):
        hits = collection.hybrid_search(asked, rerank=ranker, limit=4, output_fields=outputs)[0]
        assert hits[0].entity.get("text") == TEXTS[1]
        assert {hit.entity.get("source") for hit in hits} == {"s1"}
    collection.delete(f"pk in {[keys[1]]}")
    assert not collection.search(["blue"], "sparse", {"metric_type": "BM25", "params": {}}, limit=4)[0]
    collection.drop()
    connections.disconnect(alias)


def test_llama_index_searches_nodes_by_text_and_vector(client: MilvusClient, collection_name: str) -> None:
    """LlamaIndex: `MilvusVectorStore(enable_sparse=True, sparse_embedding_function=BM25BuiltInFunction())`."""
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", DataType.VARCHAR, max_length=65535, is_primary=True)
    schema.add_field("doc_id", DataType.VARCHAR, max_length=65535)
    schema.add_field("text", DataType.VARCHAR, max_length=65535, enable_analyzer=True, enable_match=False)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=4)
    schema.add_field("sparse_embedding", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(Function("text_bm25_emb", FunctionType.BM25, ["text"], ["sparse_embedding"]))
    client.create_collection(collection_name, schema=schema)
    indexes = client.prepare_index_params()
    indexes.add_index("embedding", index_type="FLAT", metric_type="IP")
    indexes.add_index("sparse_embedding", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
    client.create_index(collection_name, indexes, sync=False)
    client.load_collection(collection_name)
    nodes = [
        {"id": f"n{n}", "doc_id": f"d{n}", "text": t, "embedding": vector(n), "_node_content": json.dumps({"text": t})}
        for n, t in enumerate(TEXTS)
    ]
    client.upsert(collection_name, nodes)
    requests: list[Any] = [
        AnnSearchRequest([vector(3)], "embedding", {"metric_type": "IP", "params": {}}, limit=2),
        AnnSearchRequest(
            ["red hens"], "sparse_embedding", {"metric_type": "BM25", "params": {"drop_ratio_search": 0.2}}, limit=2
        ),
    ]
    found = client.hybrid_search(
        collection_name, requests, ranker=RRFRanker(60), limit=2, output_fields=["*", "_node_content"]
    )[0]
    assert {hit["id"] for hit in found} <= {"n0", "n2", "n3"}
    assert all(json.loads(hit["entity"]["_node_content"])["text"] == hit["entity"]["text"] for hit in found)
    client.delete(collection_name, filter='doc_id in ["d2"]')
    left = client.search(collection_name, ["red"], anns_field="sparse_embedding", limit=4)[0]
    assert [hit["id"] for hit in left] == ["n0"]


def test_mem0_finds_memories_of_a_user_by_words(client: MilvusClient, collection_name: str) -> None:
    """mem0: the constructor, `insert`, `search` and `keyword_search` of its Milvus store."""
    fields = [
        FieldSchema("id", DataType.VARCHAR, is_primary=True, max_length=512),
        FieldSchema("vectors", DataType.FLOAT_VECTOR, dim=4),
        FieldSchema("metadata", DataType.JSON),
        FieldSchema("text", DataType.VARCHAR, max_length=65535, enable_analyzer=True),
        FieldSchema("sparse", DataType.SPARSE_FLOAT_VECTOR),
    ]
    schema = CollectionSchema(fields, enable_dynamic_field=True)
    schema.add_function(Function("text_bm25", FunctionType.BM25, ["text"], ["sparse"]))
    indexes = client.prepare_index_params()
    indexes.add_index("vectors", index_type="AUTOINDEX", metric_type="L2", index_name="vector_index")
    indexes.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25", index_name="sparse_index")
    client.create_collection(collection_name=collection_name, schema=schema, index_params=indexes)
    for number, text in enumerate(TEXTS):
        data = {"user_id": f"u{number % 2}", "data": text}
        client.insert(collection_name, {"id": f"m{number}", "vectors": vector(number), "metadata": data, "text": text})
    mine = '(metadata["user_id"] == "u0")'
    near = client.search(collection_name, [vector(3)], anns_field="vectors", limit=1, filter=mine, output_fields=["*"])
    assert near[0][0]["id"] == "m2"
    words = client.search(
        collection_name, ["hens"], anns_field="sparse", limit=5, filter=mine, output_fields=["id", "metadata"]
    )
    assert [hit["entity"]["metadata"]["data"] for hit in words[0]] == [TEXTS[2]]
    client.upsert(collection_name, {"id": "m2", "vectors": vector(2), "metadata": {"user_id": "u0"}, "text": "gone"})
    assert not client.search(collection_name, ["hens"], anns_field="sparse", limit=5, filter=mine)[0]


def test_dify_searches_pages_of_documents_by_full_text(client: MilvusClient, collection_name: str) -> None:
    """Dify: `MilvusVector` with hybrid search enabled, its default."""
    schema = CollectionSchema(
        [
            FieldSchema("page_content", DataType.VARCHAR, max_length=65535, enable_analyzer=True),
            FieldSchema("metadata", DataType.JSON, max_length=65535),
            FieldSchema("id", DataType.INT64, is_primary=True, auto_id=True),
            FieldSchema("vector", DataType.FLOAT_VECTOR, dim=4),
            FieldSchema("sparse_vector", DataType.SPARSE_FLOAT_VECTOR),
        ]
    )
    schema.add_function(
        Function(
            name="text_bm25_emb",
            input_field_names=["page_content"],
            output_field_names=["sparse_vector"],
            function_type=FunctionType.BM25,
        )
    )
    indexes = client.prepare_index_params()
    given = {"metric_type": "IP", "index_type": "HNSW", "params": {"M": 8, "efConstruction": 64}}
    indexes.add_index(field_name="vector", **given)
    indexes.add_index(field_name="sparse_vector", index_type="AUTOINDEX", metric_type="BM25")
    client.create_collection(collection_name, schema=schema, index_params=indexes, consistency_level="Session")
    assert [f["name"] for f in client.describe_collection(collection_name)["fields"]][-1] == "sparse_vector"
    pages = [{"page_content": t, "vector": vector(n), "metadata": {"doc_id": f"p{n}"}} for n, t in enumerate(TEXTS)]
    client.insert(collection_name=collection_name, data=pages)
    outputs = ["page_content", "metadata"]
    found = client.search(
        collection_name,
        data=["red fox"],
        anns_field="sparse_vector",
        limit=4,
        output_fields=outputs,
        filter='metadata["doc_id"] in ["p0", "p2"]',
    )[0]
    assert [hit["entity"]["metadata"]["doc_id"] for hit in found] == ["p0", "p2"]
    near = client.search(collection_name, [vector(3)], anns_field="vector", limit=1, output_fields=outputs)[0]
    assert near[0]["entity"]["page_content"] == TEXTS[3]
    ids = [r["id"] for r in client.query(collection_name, filter='metadata["doc_id"] == "p0"', output_fields=["id"])]
    client.delete(collection_name, pks=ids)
    assert len(client.search(collection_name, ["red fox"], anns_field="sparse_vector", limit=4)[0]) == 1
