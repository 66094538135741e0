"""Vectors of narrow types as JSON: lists or base64 in, base64 or null out."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from conftest import Server
from rest_client import Rest

REST_ROWS: Mapping[str, tuple[str, Any, Any, bytes]] = {
    "Float16Vector": ("AUTOINDEX", [1, 0.1], "ADwAQA==", np.array([1, 0.1], np.float16).tobytes()),
    "BFloat16Vector": ("IVF_FLAT", [1, 0.1], "gD+AQA==", np.array([0x3F80, 0x3DCC], np.uint16).tobytes()),
    "Int8Vector": ("AUTOINDEX", [-128, 127], [1, 2], np.array([-128, 127], np.int8).tobytes()),
}


@pytest.mark.parametrize("data_type", REST_ROWS)
def test_rest_takes_lists_and_base64_and_gives_base64_or_null(
    server: Server, collection_name: str, data_type: str
) -> None:
    rest = Rest(server.uri)
    index_type, numbers, other, stored = REST_ROWS[data_type]
    field = {"fieldName": "v", "dataType": data_type, "nullable": True, "elementTypeParams": {"dim": 2}}
    indexes = [{"fieldName": "v", "metricType": "L2", "indexType": index_type, "indexName": "v"}]
    key = {"fieldName": "id", "dataType": "Int64", "isPrimary": True}
    rest.ok(
        "collections/create",
        {"collectionName": collection_name, "schema": {"fields": [key, field]}, "indexParams": indexes},
    )
    here = {"collectionName": collection_name}
    rows = [{"id": 1, "v": numbers}, {"id": 2, "v": other}, {"id": 3, "v": None}, {"id": 4}]
    rest.ok("entities/insert", {**here, "data": rows})
    rest.wait_loaded(collection_name)
    found = rest.ok("entities/query", {**here, "outputFields": ["v"], "filter": "id > 0"})
    text = base64.b64encode(stored).decode()
    second = other if isinstance(other, str) else base64.b64encode(np.array(other, np.int8).tobytes()).decode()
    assert [row["v"] for row in found] == [text, second, None, None]
    for query in (numbers, text) if data_type != "Int8Vector" else (numbers,):
        hits = rest.ok("entities/search", {**here, "data": [query], "outputFields": ["v"], "limit": 5})
        assert [(hit["id"], hit["v"]) for hit in hits] == [(1, text), (2, second)]
        assert hits[0]["distance"] == 0
    kind = "[]int8" if data_type == "Int8Vector" else "[]byte"
    size = 3 if data_type == "Int8Vector" else 6
    refused = rest.post("entities/insert", {**here, "data": [{"id": 5, "v": [1, 2, 3]}]})
    assert f"{kind} size {size} doesn't equal to vector dimension 2 of {data_type}" in refused["message"]
    assert rest.post("entities/search", {**here, "data": [[1, 2, 3]]})["code"] != 0
    assert rest.post("entities/insert", {**here, "data": [{"id": 5, "v": ["x", 1]}]})["code"] != 0
