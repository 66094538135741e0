"""Makes a file of Milvus Lite 2 with four collections: argv[1]."""

import sys

import numpy as np
from pymilvus import DataType, Function, FunctionType, MilvusClient

client = MilvusClient(sys.argv[1])

schema = client.create_schema(enable_dynamic_field=True)
schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
schema.add_field("v", DataType.FLOAT_VECTOR, dim=4)
for name, kind in (("b", "BOOL"), ("i8", "INT8"), ("i64", "INT64"), ("f", "FLOAT"), ("d", "DOUBLE"), ("j", "JSON")):
    schema.add_field(name, DataType[kind])
schema.add_field("a", DataType.ARRAY, element_type=DataType.INT32, max_capacity=10)
schema.add_field("at", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=10, max_length=20)
index = client.prepare_index_params("v", index_type="FLAT", metric_type="COSINE")
client.create_collection("scalars", schema=schema, index_params=index)
client.insert(
    "scalars",
    [
        {
            "id": f"k'{i}" if i != 3 else "gone",
            "v": [i, 1, 0.1, 0],
            "b": i % 2 == 0,
            "i8": i,
            "i64": i * 10**12,
            "f": i / 3,
            "d": i / 7,
            "j": {"x": i, "y": ["ä", None]},
            "a": [i, i + 1] if i else [],
            "at": ["p", str(i)],
            "color": ["red", "blue"][i % 2],
        }
        for i in range(100)
    ],
)
client.delete("scalars", ids=["gone"])

client.create_collection("quick", dimension=8, auto_id=True)
client.insert("quick", [{"vector": [i / 9] * 8, "text": f"t{i}"} for i in range(50)])

schema = client.create_schema()
schema.add_field("id", DataType.INT64, is_primary=True)
schema.add_field("half", DataType.FLOAT16_VECTOR, dim=4)
schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
schema.add_field("bits", DataType.BINARY_VECTOR, dim=16)
index = client.prepare_index_params("half", index_type="FLAT", metric_type="L2")
index.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
index.add_index("bits", index_type="BIN_FLAT", metric_type="HAMMING")
client.create_collection("vectors", schema=schema, index_params=index)
halves = np.arange(80, dtype=np.float16).reshape(20, 4)
client.insert(
    "vectors",
    [{"id": i, "half": halves[i], "sparse": {1: 0.5, 100 + i: 2.0}, "bits": bytes([i, 255])} for i in range(20)],
)

schema = client.create_schema()
schema.add_field("id", DataType.INT64, is_primary=True)
schema.add_field("text", DataType.VARCHAR, max_length=100, enable_analyzer=True)
schema.add_field("terms", DataType.SPARSE_FLOAT_VECTOR)
schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["terms"]))
index = client.prepare_index_params("terms", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
client.create_collection("texts", schema=schema, index_params=index)
client.insert("texts", [{"id": i, "text": ["red fox", "blue whale", "green frog"][i % 3]} for i in range(21)])
client.close()
