"""The calls of Dify's Milvus adapter with hybrid search on, which is its default; Dify is no package to install."""

import sys
import uuid

from pymilvus import CollectionSchema, DataType, FieldSchema, Function, FunctionType, MilvusClient
from pymilvus.milvus_client import IndexParams
from pymilvus.orm.types import infer_dtype_bydata

TEXTS = ["Refunds take five working days", "Our office in Lisbon is open on Sunday", "Reset your password in settings"]
VECTORS = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
HELD = ["page_content", "metadata"]


def create(client: MilvusClient, name: str, analyzer_params: dict[str, str] | None) -> None:
    text: dict[str, object] = {"max_length": 65_535, "enable_analyzer": True}
    if analyzer_params is not None:
        text["analyzer_params"] = analyzer_params
    fields = [
        FieldSchema("metadata", DataType.JSON, max_length=65_535),
        FieldSchema("page_content", DataType.VARCHAR, **text),
        FieldSchema("id", DataType.INT64, is_primary=True, auto_id=True),
        FieldSchema("vector", infer_dtype_bydata(VECTORS[0]), dim=3),
        FieldSchema("sparse_vector", DataType.SPARSE_FLOAT_VECTOR),
    ]
    schema = CollectionSchema(fields)
    schema.add_function(
        Function(
            name="text_bm25_emb",
            input_field_names=["page_content"],
            output_field_names=["sparse_vector"],
            function_type=FunctionType.BM25,
        )
    )
    indexes = IndexParams()
    indexes.add_index("vector", metric_type="IP", index_type="HNSW", params={"M": 8, "efConstruction": 64})
    indexes.add_index("sparse_vector", index_type="AUTOINDEX", metric_type="BM25")
    client.create_collection(name, schema=schema, index_params=indexes, consistency_level="Session")


def tour(client: MilvusClient, name: str, analyzer_params: dict[str, str] | None) -> None:
    assert not client.has_collection(name)
    create(client, name, analyzer_params)
    assert client.has_collection(name)
    described = client.describe_collection(name)
    assert "sparse_vector" in [field["name"] for field in described["fields"]]
    documents = [str(uuid.uuid4()) for _ in TEXTS]
    rows = [
        {
            "page_content": text,
            "vector": vector,
            "metadata": {"doc_id": key, "document_id": f"d{key}", "dataset_id": "s"},
        }
        for text, vector, key in zip(TEXTS, VECTORS, documents, strict=True)
    ]
    assert len(client.insert(name, rows)["ids"]) == len(TEXTS)

    (hits,) = client.search(name, [VECTORS[1]], anns_field="vector", limit=1, output_fields=HELD)
    assert hits[0]["entity"]["page_content"] == TEXTS[1]
    only = f'metadata["document_id"] in ["d{documents[0]}"]'
    (hits,) = client.search(name, [VECTORS[1]], anns_field="vector", limit=4, output_fields=HELD, filter=only)
    assert [hit["entity"]["page_content"] for hit in hits] == [TEXTS[0]]

    (hits,) = client.search(name, ["lisbon office"], anns_field="sparse_vector", limit=4, output_fields=HELD, filter="")
    assert [hit["entity"]["page_content"] for hit in hits] == [TEXTS[1]]
    assert hits[0]["distance"] > 0
    (hits,) = client.search(name, ["lisbon"], anns_field="sparse_vector", limit=4, output_fields=HELD, filter=only)
    assert not hits

    found = client.query(name, filter=f'metadata["doc_id"] in ["{documents[2]}"]', output_fields=["id"])
    client.delete(name, pks=[found[0]["id"]])
    assert not client.query(name, filter=f'metadata["doc_id"] in ["{documents[2]}"]', output_fields=["id"])
    (hits,) = client.search(name, ["password"], anns_field="sparse_vector", limit=4, output_fields=HELD)
    assert not hits
    client.drop_collection(name, None)


def main(uri: str) -> None:
    client = MilvusClient(uri=uri, user="", password="", db_name="default")
    version = client.get_server_version().lstrip("v").split(".")
    assert (int(version[0]), int(version[1])) >= (2, 5), "Dify switches hybrid search off"
    tour(client, "Vector_index_1_Node", None)
    tour(client, "Vector_index_2_Node", {"type": "english"})
    print("dify: ok")


main(sys.argv[1])
