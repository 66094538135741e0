"""The calls of Open WebUI's Milvus adapter, with each index type of its settings; it is no package to install."""

import sys

from pymilvus import DataType, MilvusClient

INDEXES = {
    "HNSW": {"M": 16, "efConstruction": 100},
    "IVF_FLAT": {"nlist": 128},
    "FLAT": {},
    "AUTOINDEX": {},
    "DISKANN": {"max_degree": 56, "search_list_size": 100},
}
OUTPUT = ["id", "data", "metadata"]
CHUNKS = [
    ("chunk-1", "Refunds take five working days", [1.0, 0.1, 0.0], {"file_id": "terms", "page": 1}),
    ("chunk-2", "Our office in Lisbon is open on Sunday", [0.0, 1.0, 0.1], {"file_id": "office", "page": 1}),
    ("chunk-3", "Reset your password in settings", [0.1, 0.0, 1.0], {"file_id": "help", "page": 7}),
]


def rows() -> list[dict[str, object]]:
    return [{"id": i, "vector": v, "data": {"text": text}, "metadata": m} for i, text, v, m in CHUNKS]


def create(client: MilvusClient, name: str, index_type: str) -> None:
    schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=65_535)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=3, description="vector")
    schema.add_field("data", DataType.JSON, description="data")
    schema.add_field("metadata", DataType.JSON, description="metadata")
    indexes = client.prepare_index_params()
    indexes.add_index("vector", index_type=index_type, metric_type="COSINE", params=INDEXES[index_type])
    client.create_collection(name, schema=schema, index_params=indexes)


def read_all(client: MilvusClient, name: str, text: str) -> list[str]:
    client.load_collection(name)
    iterator = client.query_iterator(name, filter=text, output_fields=OUTPUT, limit=-1)
    found = []
    while batch := iterator.next():
        found += [row["id"] for row in batch]
    iterator.close()
    return found


def try_index(client: MilvusClient, index_type: str) -> None:
    name = f"open_webui_{index_type.lower()}"
    create(client, name, index_type)
    assert client.has_collection(name)
    client.insert(name, rows())
    client.upsert(name, rows())
    (hits,) = client.search(name, [[0.0, 1.0, 0.0]], limit=2, output_fields=["data", "metadata"])
    assert hits[0]["id"] == "chunk-2", hits
    assert hits[0]["entity"]["data"]["text"].startswith("Our office")
    assert 0.9 < (hits[0]["distance"] + 1) / 2 <= 1
    assert read_all(client, name, "") == ["chunk-1", "chunk-2", "chunk-3"]
    assert read_all(client, name, 'metadata["file_id"] == "help" && metadata["page"] == 7') == ["chunk-3"]
    client.delete(name, ids=["chunk-1"])
    client.delete(name, filter='metadata["file_id"] == "office"')
    assert read_all(client, name, "") == ["chunk-3"]
    client.drop_collection(name)
    assert not client.has_collection(name)


def main() -> None:
    client = MilvusClient(uri=sys.argv[1], db_name="default")
    for index_type in INDEXES:
        try_index(client, index_type)
    assert not [name for name in client.list_collections() if name.startswith("open_webui")]
    print("open webui: ok")


main()
