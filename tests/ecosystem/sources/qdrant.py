"""Makes a directory of Qdrant's client: argv[1]."""

import sys
import uuid

from qdrant_client import QdrantClient, models

client = QdrantClient(path=sys.argv[1])
cosine = models.VectorParams(size=4, distance=models.Distance.COSINE)
client.create_collection("points", vectors_config=cosine)
payload = {"city": "Rome", "tags": ["a", 1], "nested": {"x": None}}
client.upsert(
    "points", [models.PointStruct(id=i, vector=[i + 1, 1, 0.1, 0], payload={**payload, "n": i}) for i in range(300)]
)
many = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
client.create_collection(
    "named",
    vectors_config={
        "image": models.VectorParams(size=4, distance=models.Distance.DOT),
        "text": models.VectorParams(size=2, distance=models.Distance.EUCLID),
        "late": models.VectorParams(size=4, distance=models.Distance.COSINE, multivector_config=many),
    },
    sparse_vectors_config={"words": models.SparseVectorParams()},
)
client.upsert(
    "named",
    [
        models.PointStruct(
            id=str(uuid.UUID(int=i)),
            vector={
                "image": [i, 1, 0.1, 0],
                "words": models.SparseVector(indices=[1, i + 2], values=[0.5, 1.0]),
                **({"text": [i, 1]} if i % 3 else {}),
            },
            payload={"a": i},
        )
        for i in range(60)
    ],
)
manhattan = models.VectorParams(size=2, distance=models.Distance.MANHATTAN)
client.create_collection("mixed", vectors_config=manhattan)
ids = [7, str(uuid.UUID(int=5))]
client.upsert("mixed", [models.PointStruct(id=one, vector=[1, 2]) for one in ids])
client.close()
