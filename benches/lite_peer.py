"""Milvus Lite with full text, driven by `benches/texts.py`; runs in an environment that has `milvus-lite`.

    PYTHON benches/lite_peer.py DIRECTORY TEXTS.json K

Inserts the texts and prints how many seconds that took. Then answers each line of the input, a query, by a line: the
seconds that the search took, and the ids of the hits.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from pymilvus import DataType, Function, FunctionType, MilvusClient

BATCH = 10_000


def main() -> None:
    directory, texts_file, k = sys.argv[1:]
    texts = json.loads(Path(texts_file).read_text())
    client = MilvusClient(f"{directory}/lite.db")
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("text", DataType.VARCHAR, max_length=65_535, enable_analyzer=True)
    schema.add_field("terms", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["terms"]))
    indexes = client.prepare_index_params()
    params = {"bm25_k1": 1.2, "bm25_b": 0.75}  # its usual k1 is 1.5
    indexes.add_index("terms", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25", params=params)
    client.create_collection("texts", schema=schema, index_params=indexes)
    began = time.perf_counter()
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        client.insert("texts", [{"id": start + place, "text": text} for place, text in enumerate(batch)])
    print(json.dumps(time.perf_counter() - began), flush=True)
    client.flush("texts")
    client.load_collection("texts")
    for line in sys.stdin:
        began = time.perf_counter()
        (hits,) = client.search("texts", [line.rstrip("\n")], anns_field="terms", limit=int(k))
        print(json.dumps([time.perf_counter() - began, [hit["id"] for hit in hits]]), flush=True)


if __name__ == "__main__":
    main()
