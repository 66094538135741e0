"""milvus-haystack: documents with filters, and its dense, sparse (BM25) and hybrid retrievers."""

import hashlib
import sys

from haystack import Document
from milvus_haystack import MilvusDocumentStore
from milvus_haystack.function import BM25BuiltInFunction
from milvus_haystack.milvus_embedding_retriever import (
    MilvusEmbeddingRetriever,
    MilvusHybridRetriever,
    MilvusSparseEmbeddingRetriever,
)

DIM = 32
TEXTS = [
    "Milvus is a vector database for similarity search",
    "A cat sleeps on the warm window sill",
    "Vector databases keep embeddings of documents",
    "The train to Lisbon leaves at nine",
    "BM25 ranks documents by the terms of a query",
]


def embedding(text: str) -> list[float]:
    """A bag of hashed words: texts that share words are near each other."""
    vector = [0.01] * DIM
    for word in text.lower().split():
        vector[int(hashlib.md5(word.encode()).hexdigest(), 16) % DIM] += 1.0
    return vector


def documents() -> list[Document]:
    return [Document(content=text, meta={"number": n}, embedding=embedding(text)) for n, text in enumerate(TEXTS)]


def numbers(found: list[Document]) -> list[int]:
    return [document.meta["number"] for document in found]


def dense(uri: str) -> None:
    store = MilvusDocumentStore(
        collection_name="hs_dense", connection_args={"uri": uri}, consistency_level="Strong", drop_old=True
    )
    assert store.write_documents(documents()) == len(TEXTS)
    assert store.count_documents() == len(TEXTS)
    late = {"field": "meta.number", "operator": ">", "value": 2}
    assert sorted(numbers(store.filter_documents(late))) == [3, 4]
    retriever = MilvusEmbeddingRetriever(document_store=store, top_k=2)
    assert numbers(retriever.run(query_embedding=embedding("a cat sleeps"))["documents"])[0] == 1
    assert numbers(retriever.run(query_embedding=embedding("a cat sleeps"), filters=late)["documents"])[0] in (3, 4)
    (train,) = store.filter_documents({"field": "meta.number", "operator": "==", "value": 3})
    store.delete_documents([train.id])
    assert store.count_documents() == len(TEXTS) - 1


def hybrid(uri: str) -> None:
    store = MilvusDocumentStore(
        collection_name="hs_hybrid",
        connection_args={"uri": uri},
        consistency_level="Strong",
        drop_old=True,
        vector_field="dense",
        text_field="text",
        sparse_vector_field="sparse",
        builtin_function=[BM25BuiltInFunction(input_field_names="text", output_field_names="sparse")],
    )
    store.write_documents(documents())
    sparse = MilvusSparseEmbeddingRetriever(document_store=store, top_k=5)
    assert numbers(sparse.run(query_text="BM25 query")["documents"]) == [4]
    assert set(numbers(sparse.run(query_text="documents")["documents"])) == {2, 4}
    both = MilvusHybridRetriever(document_store=store, top_k=2)
    found = both.run(query_text="Lisbon train", query_embedding=embedding("the train to Lisbon"))["documents"]
    assert numbers(found)[0] == 3


def main(uri: str) -> None:
    dense(uri)
    hybrid(uri)
    print("milvus-haystack: ok")


main(sys.argv[1])
