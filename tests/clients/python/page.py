"""The page "Load & Release" with pymilvus, against MILVINE_URI with MILVINE_TOKEN."""

from __future__ import annotations

import os

from pymilvus import DataType, MilvusClient, MilvusException

client = MilvusClient(uri=os.environ["MILVINE_URI"], token=os.environ["MILVINE_TOKEN"])

schema = MilvusClient.create_schema(enable_dynamic_field=True)
schema.add_field("my_id", DataType.INT64, is_primary=True)
schema.add_field("my_vector", DataType.FLOAT_VECTOR, dim=5)
schema.add_field("my_varchar", DataType.VARCHAR, max_length=64)
index_params = client.prepare_index_params()
index_params.add_index(field_name="my_vector", index_type="AUTOINDEX", metric_type="COSINE")
client.create_collection(collection_name="my_collection", schema=schema)
client.create_index(collection_name="my_collection", index_params=index_params)
rows = [{"my_id": i, "my_vector": [i, 1, 2, 3, 4], "my_varchar": f"v{i}", "color": "red"} for i in range(10)]
client.insert(collection_name="my_collection", data=rows)

# Load the collection
client.load_collection(collection_name="my_collection")
res = client.get_load_state(collection_name="my_collection")
print(res)

# To load other fields, release first
client.release_collection(collection_name="my_collection")
print(client.get_load_state(collection_name="my_collection"))

# Load specific fields
client.load_collection(
    collection_name="my_collection",
    load_fields=["my_id", "my_vector"],  # Load only the specified fields
    skip_load_dynamic_field=True,  # Skip loading the dynamic field
)
res = client.get_load_state(collection_name="my_collection")
print(res)


def show_refusal(what: str, expression: str, output_field: str) -> None:
    """A field that is not loaded can be used neither in a filter nor as output."""
    try:
        found = client.query(collection_name="my_collection", filter=expression, output_fields=[output_field])
        print(f"{what}: not refused, {found}")
    except MilvusException as error:
        print(f"{what}: {error.message}")


show_refusal("filter", 'my_varchar == "v1"', "my_id")
show_refusal("output", "my_id > 1", "my_varchar")
show_refusal("dynamic", "my_id > 1", "color")
hits = client.search(collection_name="my_collection", data=[[3, 1, 2, 3, 4]], limit=1)
print(f"search: {hits[0][0]['my_id'] if 'my_id' in hits[0][0] else hits[0][0]['id']}")

# Release the collection
client.release_collection(collection_name="my_collection")
res = client.get_load_state(collection_name="my_collection")
print(res)

client.drop_collection(collection_name="my_collection")
