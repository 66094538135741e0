"""LlamaIndex's Milvus store: dense search with filters, MMR, BM25, hybrid search, and the asynchronous calls."""

import asyncio
import hashlib
import sys

from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from llama_index.vector_stores.milvus import MilvusVectorStore
from llama_index.vector_stores.milvus.utils import BM25BuiltInFunction

DIM = 32
TEXTS = {
    "n1": "Milvus is a vector database for similarity search",
    "n2": "A cat sleeps on the warm window sill",
    "n3": "Vector databases keep embeddings of documents",
    "n4": "The train to Lisbon leaves at nine",
}


def embedding(text: str) -> list[float]:
    vector = [0.01] * DIM
    for word in text.lower().split():
        vector[int(hashlib.md5(word.encode()).hexdigest(), 16) % DIM] += 1.0
    return vector


def nodes() -> list[TextNode]:
    made = []
    for number, (key, text) in enumerate(TEXTS.items()):
        node = TextNode(id_=key, text=text, metadata={"number": number}, embedding=embedding(text))
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"document-{key}")
        made.append(node)
    return made


def query(
    text: str, mode: VectorStoreQueryMode = VectorStoreQueryMode.DEFAULT, k: int = 2, **more: object
) -> VectorStoreQuery:
    return VectorStoreQuery(query_embedding=embedding(text), query_str=text, similarity_top_k=k, mode=mode, **more)


def store(uri: str, name: str, **more: object) -> MilvusVectorStore:
    return MilvusVectorStore(uri=uri, collection_name=name, dim=DIM, overwrite=True, consistency_level="Strong", **more)


def dense(uri: str) -> None:
    index = store(uri, "li_dense")
    assert index.add(nodes()) == list(TEXTS)
    assert index.query(query("a cat sleeps", k=1)).ids == ["n2"]
    later = MetadataFilters(filters=[MetadataFilter(key="number", value=1, operator=">")])
    assert "n2" not in index.query(query("a cat sleeps", k=4, filters=later)).ids
    assert len(index.query(query("vector databases", VectorStoreQueryMode.MMR, k=2)).ids) == 2
    assert [node.node_id for node in index.get_nodes(node_ids=["n3"])] == ["n3"]
    index.delete("document-n4")
    assert "n4" not in (index.query(query("train to Lisbon", k=4)).ids or [])


async def hybrid(uri: str) -> None:
    index = store(uri, "li_hybrid", enable_sparse=True, sparse_embedding_function=BM25BuiltInFunction())
    assert await index.async_add(nodes()) == list(TEXTS)
    assert index.query(query("Lisbon", VectorStoreQueryMode.TEXT_SEARCH, k=1)).ids == ["n4"]
    assert index.query(query("sparse Lisbon", VectorStoreQueryMode.SPARSE, k=1)).ids == ["n4"]
    assert index.query(query("train Lisbon", VectorStoreQueryMode.HYBRID, k=1)).ids == ["n4"]
    assert (await index.aquery(query("warm window", VectorStoreQueryMode.HYBRID, k=1))).ids == ["n2"]
    assert [node.node_id for node in await index.aget_nodes(node_ids=["n1"])] == ["n1"]
    await index.adelete("document-n2")
    assert "n2" not in (await index.aquery(query("warm window", VectorStoreQueryMode.HYBRID, k=4))).ids


def main(uri: str) -> None:
    dense(uri)
    asyncio.run(hybrid(uri))
    print("llama-index: ok")


main(sys.argv[1])
