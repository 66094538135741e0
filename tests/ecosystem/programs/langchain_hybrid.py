"""langchain-milvus: dense search with filters and MMR, BM25 alone, and hybrid search with both rankers."""

import hashlib
import sys

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_milvus import BM25BuiltInFunction, Milvus

DIM = 32
TEXTS = [
    "Milvus is a vector database for similarity search",
    "A cat sleeps on the warm window sill",
    "Vector databases keep embeddings of documents",
    "The train to Lisbon leaves at nine",
    "BM25 ranks documents by the terms of a query",
]


class WordEmbeddings(Embeddings):
    """A bag of hashed words: texts that share words are near each other."""

    def embed_query(self, text: str) -> list[float]:
        vector = [0.01] * DIM
        for word in text.lower().split():
            vector[int(hashlib.md5(word.encode()).hexdigest(), 16) % DIM] += 1.0
        return vector

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


def documents() -> list[Document]:
    return [Document(page_content=text, metadata={"number": n}) for n, text in enumerate(TEXTS)]


def numbers(found: list[Document]) -> list[int]:
    return [document.metadata["number"] for document in found]


def dense(uri: str) -> None:
    store = Milvus.from_documents(
        documents(),
        WordEmbeddings(),
        collection_name="lc_dense",
        connection_args={"uri": uri},
        consistency_level="Strong",
        drop_old=True,
    )
    assert numbers(store.similarity_search("a cat sleeps", k=1)) == [1]
    assert numbers(store.similarity_search("a cat sleeps", k=5, expr="number > 2"))[0] in (3, 4)
    assert len(store.max_marginal_relevance_search("vector databases", k=3, fetch_k=5)) == 3
    scored = store.similarity_search_with_score("the train to Lisbon", k=2)
    assert scored[0][0].metadata["number"] == 3
    keys = store.get_pks("number == 3")
    assert keys
    assert store.delete(ids=keys)
    assert 3 not in numbers(store.similarity_search("the train to Lisbon", k=5))


def full_text(uri: str) -> None:
    store = Milvus.from_documents(
        documents(),
        None,
        builtin_function=BM25BuiltInFunction(output_field_names="sparse"),
        vector_field="sparse",
        collection_name="lc_text",
        connection_args={"uri": uri},
        consistency_level="Strong",
        drop_old=True,
    )
    assert numbers(store.similarity_search("BM25 query", k=1)) == [4]
    assert set(numbers(store.similarity_search("documents", k=5))) == {2, 4}


def hybrid(uri: str) -> None:
    store = Milvus.from_documents(
        documents(),
        WordEmbeddings(),
        builtin_function=BM25BuiltInFunction(),
        vector_field=["dense", "sparse"],
        collection_name="lc_hybrid",
        connection_args={"uri": uri},
        consistency_level="Strong",
        drop_old=True,
    )
    assert numbers(store.similarity_search("BM25 ranks", k=1)) == [4]
    weighted = {"ranker_type": "weighted", "ranker_params": {"weights": [0.4, 0.6]}}
    assert numbers(store.similarity_search("Lisbon train", k=1, **weighted)) == [3]
    assert numbers(store.similarity_search("Lisbon train", k=3, ranker_type="rrf", ranker_params={"k": 60}))[0] == 3
    more = store.add_texts(["Sardines are grilled in Lisbon"], metadatas=[{"number": 9}])
    assert len(more) == 1
    # langchain-milvus 0.4.0 adds names to its list of vector fields with each search; weights fit that list no more.
    found = store.similarity_search("Lisbon", k=2, ranker_type="rrf", ranker_params={"k": 60})
    assert set(numbers(found)) == {3, 9}


def main(uri: str) -> None:
    dense(uri)
    full_text(uri)
    hybrid(uri)
    print("langchain-milvus: ok")


main(sys.argv[1])
