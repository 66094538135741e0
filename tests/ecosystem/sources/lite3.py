"""Makes a file of Milvus Lite 3: argv[1]."""

import sys

from pymilvus import MilvusClient

client = MilvusClient(sys.argv[1])
client.create_collection("quick", dimension=4)
client.insert("quick", [{"id": i, "vector": [i, 1, 2, 3], "color": "red"} for i in range(30)])
client.close()
