"""Makes a directory of Chroma: argv[1]."""

import sys

import chromadb

client = chromadb.PersistentClient(sys.argv[1])
docs = client.create_collection("docs", configuration={"hnsw": {"space": "cosine"}})
docs.add(
    ids=[f"d{i}" for i in range(300)],
    embeddings=[[i + 1, 1, 0.1, 0] for i in range(300)],
    documents=[f"text {i} ä" for i in range(300)],
    metadatas=[{"page": i, "source": "web", "ok": i % 2 == 0, "score": i / 3, "id": "its own"} for i in range(300)],
)
client.create_collection("plain").add(ids=["a", "b"], embeddings=[[1, 2, 3], [4, 5, 6]])
