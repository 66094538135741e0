"""Rows of all types, in files as Milvus's bulk writers make them, and import jobs by REST."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import requests
from conftest import Server
from pymilvus import CollectionSchema, DataType, MilvusClient

DIM = 8


def all_types_schema(**more: Any) -> CollectionSchema:
    """A field of each type; `more` are arguments of the schema."""
    schema = MilvusClient.create_schema(enable_dynamic_field=True, **more)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("flag", DataType.BOOL)
    schema.add_field("tiny", DataType.INT8)
    schema.add_field("small", DataType.INT16)
    schema.add_field("whole", DataType.INT32)
    schema.add_field("long", DataType.INT64, nullable=True)
    schema.add_field("single", DataType.FLOAT, default_value=1.5)
    schema.add_field("double", DataType.DOUBLE)
    schema.add_field("text", DataType.VARCHAR, max_length=64, nullable=True)
    schema.add_field("json", DataType.JSON, nullable=True)
    schema.add_field("moment", DataType.TIMESTAMPTZ, nullable=True)
    schema.add_field("numbers", DataType.ARRAY, element_type=DataType.INT64, max_capacity=4)
    schema.add_field("words", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=4, max_length=32)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("half", DataType.FLOAT16_VECTOR, dim=DIM, nullable=True)
    schema.add_field("brain", DataType.BFLOAT16_VECTOR, dim=DIM)
    schema.add_field("bits", DataType.BINARY_VECTOR, dim=DIM)
    schema.add_field("bytes", DataType.INT8_VECTOR, dim=DIM)
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    return schema


def all_types_rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    """JSON values; floats that all kinds of vectors hold exactly."""
    return [
        {
            "id": i,
            "flag": i % 2 == 0,
            "tiny": i % 100 - 50,
            "small": i * 7 % 30000,
            "whole": -i * 11,
            "long": None if i % 5 == 0 else 2**53 + i,
            "single": None if i % 7 == 0 else i / 4,
            "double": i / 3,
            "text": None if i % 3 == 0 else f'row "{i}", ü\n',
            "moment": None if i % 4 == 0 else f"2025-01-{1 + i % 28:02}T00:00:00.5+08:00",
            "json": {"a": i, "b": [1, "x", None], "c": {"d": i / 8}},
            "numbers": list(range(i % 4)),
            "words": [f"w{j}" for j in range(i % 3)],
            "vector": [(i + j) % 16 / 4 for j in range(DIM)],
            "half": None if i % 4 == 0 else [(i * j) % 8 / 2 for j in range(DIM)],
            "brain": [(i + 2 * j) % 8 / 2 for j in range(DIM)],
            "bits": [i % 256],
            "bytes": [(i + j) % 128 - 64 for j in range(DIM)],
            "sparse": {str(i % 10): 0.5, "200": i + 0.25},
            "extra": i,
        }
        for i in range(first, first + count)
    ]


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], **options: Any) -> None:
    """As a bulk writer does: JSON and sparse vectors are text, halves are bytes."""

    def texts(name: str) -> list[str]:
        return [json.dumps(row[name]) for row in rows]

    def halves(name: str, is_brain: bool) -> list[Any]:
        def packed(row: Mapping[str, Any]) -> Any:
            if row[name] is None:
                return None
            numbers = np.array(row[name], np.float32)
            return (numbers.view(np.uint16)[1::2] if is_brain else numbers.astype(np.float16)).tobytes()

        return [None if (found := packed(row)) is None else list(found) for row in rows]

    plain = {
        "id": pa.int64(),
        "flag": pa.bool_(),
        "tiny": pa.int8(),
        "small": pa.int16(),
        "whole": pa.int32(),
        "long": pa.int64(),
        "single": pa.float32(),
        "double": pa.float64(),
        "text": pa.string(),
        "moment": pa.string(),
        "numbers": pa.list_(pa.int64()),
        "words": pa.list_(pa.string()),
        "vector": pa.list_(pa.float32()),
        "bits": pa.list_(pa.uint8()),
        "bytes": pa.list_(pa.int8()),
    }
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in plain.items()}
    columns |= {"json": pa.array(texts("json")), "sparse": pa.array(texts("sparse"))}
    columns["half"] = pa.array(halves("half", False), pa.list_(pa.uint8()))
    columns["brain"] = pa.array(halves("brain", True), pa.list_(pa.uint8()))
    columns["$meta"] = pa.array([json.dumps({"extra": row["extra"]}) for row in rows])
    pq.write_table(pa.table(columns), path, **options)


class Jobs:
    """Import jobs of one server."""

    def __init__(self, server: Server) -> None:
        self._uri = f"{server.uri}/v2/vectordb/jobs/import/"

    def call(self, route: str, **body: Any) -> dict[str, Any]:
        answer: dict[str, Any] = requests.post(self._uri + route, json=body, timeout=60).json()
        return answer

    def call_of(self, route: str, job_id: str) -> dict[str, Any]:
        return self.call(route, jobId=job_id)

    def create(self, name: str, files: list[list[str]], **body: Any) -> str:
        answer = self.call("create", collectionName=name, files=files, **body)
        assert answer["code"] == 0, answer
        job_id: str = answer["data"]["jobId"]
        return job_id

    def describe(self, job_id: str) -> dict[str, Any]:
        answer = self.call("describe", jobId=job_id)
        assert answer["code"] == 0, answer
        data: dict[str, Any] = answer["data"]
        return data

    def wait(self, job_id: str, *states: str, seconds: float = 100) -> dict[str, Any]:
        """The job once it is in one of the states: at its end if none are given."""
        ends_at = time.monotonic() + seconds
        while True:
            found = self.describe(job_id)
            if found["state"] in (*states, "Completed", "Failed"):
                return found
            assert time.monotonic() < ends_at, found
            time.sleep(0.02)

    def run(self, name: str, files: list[list[str]], **body: Any) -> dict[str, Any]:
        return self.wait(self.create(name, files, **body))


def make(client: MilvusClient, name: str, schema: Any) -> None:
    """A loaded collection with an index on each field of vectors."""
    indexes = client.prepare_index_params()
    for field in schema.fields:
        metric = {DataType.BINARY_VECTOR: "HAMMING", DataType.SPARSE_FLOAT_VECTOR: "IP"}.get(field.dtype, "L2")
        if field.dtype in (DataType.FLOAT_VECTOR, DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR):
            indexes.add_index(field.name, index_type="FLAT", metric_type=metric)
        elif field.dtype in (DataType.BINARY_VECTOR, DataType.SPARSE_FLOAT_VECTOR, DataType.INT8_VECTOR):
            indexes.add_index(field.name, index_type="AUTOINDEX", metric_type=metric)
    client.create_collection(name, schema=schema, index_params=indexes)


def stored(client: MilvusClient, name: str) -> list[dict[str, Any]]:
    return list(client.query(name, "", output_fields=["*"], limit=1000, consistency_level="Strong"))
