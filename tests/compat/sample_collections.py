"""Collections that many tests start from, and a plain-numpy oracle for answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient, MilvusException

Array = np.ndarray[Any, Any]
DIM = 4


def make_c1(client: MilvusClient, name: str, *, index: bool = True, dynamic: bool = False, load: bool = False) -> None:
    """id INT64 key, vec FLOAT_VECTOR(4), a INT64: the specification's C1."""
    schema = client.create_schema(auto_id=False, enable_dynamic_field=dynamic)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("a", DataType.INT64)
    client.create_collection(name, schema=schema)
    if index:
        add_index(client, name, "vec")
    if load:
        client.load_collection(name)


def make_quick(
    client: MilvusClient, name: str, dim: int, *, metric: str = "COSINE", index_type: str = "AUTOINDEX", **key: Any
) -> None:
    """What create_collection(dimension=...) makes, without the SDK's half second for each index."""
    auto_id, data_type = key.pop("auto_id", False), key.pop("data_type", DataType.INT64)
    schema = client.create_schema(auto_id=auto_id, enable_dynamic_field=True)
    schema.add_field("id", data_type, is_primary=True, **key)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    client.create_collection(name, schema=schema)
    add_index(client, name, "vector", index_type, metric)
    client.load_collection(name)


def make_text_keys(client: MilvusClient, name: str, key: str, dim: int, max_length: int) -> None:
    """VARCHAR keys and `vec`, indexed and loaded."""
    schema = client.create_schema()
    schema.add_field(key, DataType.VARCHAR, is_primary=True, max_length=max_length)
    schema.add_field("vec", DataType.FLOAT_VECTOR, dim=dim)
    client.create_collection(name, schema=schema)
    add_index(client, name, "vec")
    client.load_collection(name)


def wait_indexed(client: MilvusClient, name: str, index_name: str, rows: int) -> None:
    """Waits until the index covers this many rows."""
    deadline = time.monotonic() + 60
    while (described := client.describe_index(name, index_name))["indexed_rows"] < rows:
        assert described["state"] != "Failed", described
        assert time.monotonic() < deadline, described
        time.sleep(0.05)


def make_two_vectors(client: MilvusClient, name: str, *, indexed: Sequence[str] = ("v0",)) -> None:
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    for vector in ("v0", "v1"):
        schema.add_field(vector, DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection(name, schema=schema)
    for vector in indexed:
        add_index(client, name, vector)


def add_index(
    client: MilvusClient, name: str, field_name: str, index_type: str = "FLAT", metric: str = "L2", **params: Any
) -> None:
    indexes = client.prepare_index_params()
    indexes.add_index(field_name, index_type=index_type, metric_type=metric, params=params)
    client.create_index(name, indexes, sync=False)


def refused_index(
    client: MilvusClient,
    field_name: str,
    data_type: DataType,
    index_type: str,
    metric: str,
    *,
    dim: int | None = None,
    **params: Any,
) -> MilvusException:
    """Why an index of such a vector field is refused; no index is left."""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field(field_name, data_type, **({} if dim is None else {"dim": dim}))
    client.create_collection("refused_index", schema=schema)
    try:
        with pytest.raises(MilvusException) as refused:
            add_index(client, "refused_index", field_name, index_type, metric, **params)
        assert client.list_indexes("refused_index") == []
    finally:
        client.drop_collection("refused_index")
    return refused.value


def c1_rows(count: int, first: int = 0, **extra: Any) -> list[dict[str, Any]]:
    """Row i: id i, a 10 i, vector (i, 0, 0, 0)."""
    rows = range(first, first + count)
    return [{"id": i, "vec": [float(i), 0.0, 0.0, 0.0], "a": 10 * i, **extra} for i in rows]


def ids_of(client: MilvusClient, name: str, filter_text: str, **options: Any) -> list[Any]:
    rows = client.query(name, filter=filter_text, output_fields=["id"], **options)
    return [row["id"] for row in rows]


def clustered(count: int, dim: int, seed: int, clusters: int = 32) -> Array:
    """Random points around random centres, distributed like embeddings."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, dim))
    points = centres[rng.integers(0, clusters, count)] + 0.35 * rng.normal(size=(count, dim))
    return points.astype(np.float32)


def scores(queries: Array, base: Array, metric: str) -> Array:
    """Milvus's scores: squared distance for L2, similarity for IP and COSINE. In float64."""
    q, b = queries.astype(np.float64), base.astype(np.float64)
    if metric == "L2":
        squares: Array = ((q[:, None, :] - b[None, :, :]) ** 2).sum(axis=2)
        return squares
    if metric == "COSINE":
        q = q / np.linalg.norm(q, axis=1, keepdims=True)
        b = b / np.linalg.norm(b, axis=1, keepdims=True)
    products: Array = q @ b.T
    return products


def nearest(all_scores: Array, metric: str, k: int) -> Array:
    order = np.argsort(all_scores if metric == "L2" else -all_scores, axis=1, kind="stable")
    return order[:, :k]


def recall(found: Sequence[Sequence[int]], truth: Array) -> float:
    hits = sum(len(set(f) & set(t.tolist())) for f, t in zip(found, truth, strict=True))
    return hits / truth.size
