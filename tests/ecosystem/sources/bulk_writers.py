"""Writes files of every kind by pymilvus's bulk writers, imports and searches them.

usage: bulk_writers.py URI DIRECTORY ENDPOINT BUCKET; the server reads files below the directory and the bucket.
"""

import sys
import time

import numpy as np
from pymilvus import DataType, MilvusClient
from pymilvus.bulk_writer import (
    BulkFileType,
    LocalBulkWriter,
    RemoteBulkWriter,
    bulk_import,
    get_import_progress,
    list_import_jobs,
)

URI, DIRECTORY, ENDPOINT, BUCKET = sys.argv[1:]
ROWS = 300

client = MilvusClient(URI)


def schema_for(kind: BulkFileType):
    schema = client.create_schema(enable_dynamic_field=kind is not BulkFileType.NUMPY)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    schema.add_field("half", DataType.FLOAT16_VECTOR, dim=4)
    schema.add_field("bits", DataType.BINARY_VECTOR, dim=16)
    schema.add_field("flag", DataType.BOOL)
    schema.add_field("text", DataType.VARCHAR, max_length=50)
    schema.add_field("json", DataType.JSON)
    schema.add_field("number", DataType.DOUBLE)
    if kind is not BulkFileType.NUMPY:
        schema.add_field("tags", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=5, max_length=10)
        schema.add_field("maybe", DataType.INT32, nullable=True)
        schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    return schema


def row(i: int, kind: BulkFileType) -> dict:
    made = {
        "id": i,
        "vector": [float(i), 1.0, 0.5, 0.0],
        "half": np.array([i, 1, 2, 3], np.float16),
        "bits": [i % 2, 1] * 8,
        "flag": i % 2 == 0,
        "text": f'ü"{i}", x',
        "json": {"a": [i, None], "b": "c"},
        "number": i / 3,
    }
    if kind is not BulkFileType.NUMPY:
        made |= {"tags": ["t", str(i)], "maybe": None if i % 3 else i, "sparse": {1: 0.5, 10 + i: 2.0}, "extra": i}
    return made


def imported(name: str, files: list[list[str]]) -> None:
    job = bulk_import(URI, name, files=files).json()["data"]["jobId"]
    end = time.monotonic() + 120
    while True:
        found = get_import_progress(URI, job).json()["data"]
        if found["state"] in ("Completed", "Failed"):
            break
        assert time.monotonic() < end, found
        time.sleep(0.05)
    assert (found["state"], found["importedRows"]) == ("Completed", ROWS), found
    assert job in [one["jobId"] for one in list_import_jobs(URI, name).json()["data"]["records"]]


def tried(place: str, kind: BulkFileType) -> None:
    name = f"{place}_{kind.name}".lower()
    schema = schema_for(kind)
    index = client.prepare_index_params("vector", index_type="HNSW", metric_type="L2")
    index.add_index("half", index_type="FLAT", metric_type="L2")
    index.add_index("bits", index_type="BIN_FLAT", metric_type="HAMMING")
    if kind is not BulkFileType.NUMPY:
        index.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
    client.create_collection(name, schema=schema, index_params=index)
    if place == "local":
        writer = LocalBulkWriter(schema, DIRECTORY, file_type=kind)
    else:
        connection = RemoteBulkWriter.S3ConnectParam(
            bucket_name=BUCKET, endpoint=ENDPOINT, access_key="tests", secret_key="tests-secret", secure=False
        )
        writer = RemoteBulkWriter(schema, "bulk", connection, file_type=kind)
    for i in range(ROWS):
        writer.append_row(row(i, kind))
    writer.commit()
    files = writer.batch_files
    if place == "remote":
        files = [[f"s3://{BUCKET}/{path.lstrip('/')}" for path in group] for group in files]
    imported(name, files)

    (found,) = client.get(name, ids=[7])
    assert (found["vector"], found["text"], found["json"]) == ([7, 1, 0.5, 0], 'ü"7", x', {"a": [7, None], "b": "c"})
    assert (found["flag"], found["number"]) == (False, 7 / 3)
    if kind is not BulkFileType.NUMPY:
        assert (list(found["tags"]), found["maybe"], found["sparse"]) == (["t", "7"], None, {1: 0.5, 17: 2.0}), found
        assert client.query(name, filter="extra == 7")[0]["id"] == 7
    for field, data in (("vector", [7, 1, 0.5, 0]), ("half", np.array([7, 1, 2, 3], np.float16))):
        (hits,) = client.search(name, [data], anns_field=field, limit=3)
        assert hits[0]["id"] == 7, (field, hits)
    client.drop_collection(name)


for kind in (BulkFileType.PARQUET, BulkFileType.JSON, BulkFileType.CSV, BulkFileType.NUMPY):
    for place in ("local", "remote"):
        tried(place, kind)
client.close()
