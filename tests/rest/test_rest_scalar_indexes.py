"""Scalar indexes over REST."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rest_client import VECTOR_INDEX, Rest


@pytest.fixture
def rest(server: Any) -> Rest:
    return Rest(server.uri)


def test_scalar_indexes_are_created_described_listed_and_dropped(rest: Rest, collection_name: str) -> None:
    fields = [{"fieldName": "a", "dataType": "Int64"}, {"fieldName": "doc", "dataType": "JSON"}]
    rest.custom_create(collection_name, fields, indexParams=[VECTOR_INDEX])
    rest.wait_loaded(collection_name)
    new = [
        {"fieldName": "a", "indexName": "sorted", "indexType": "STL_SORT"},
        {
            "fieldName": "doc",
            "indexType": "INVERTED",
            "params": {"json_path": "doc['x']", "json_cast_type": "double"},
        },
    ]
    rest.ok("indexes/create", {"collectionName": collection_name, "indexParams": new})
    assert sorted(rest.ok("indexes/list", {"collectionName": collection_name})) == ["doc/x", "sorted", "vec"]
    (data,) = rest.ok("indexes/describe", {"collectionName": collection_name, "indexName": "doc/x"})
    assert (data["fieldName"], data["indexType"], data["metricType"]) == ("doc", "INVERTED", "")
    params = {p["key"]: p["value"] for p in data["indexParams"]}
    assert json.loads(params["params"])["json_cast_type"] == "double", "as it was sent"
    rest.ok("indexes/drop", {"collectionName": collection_name, "indexName": "sorted"})
    assert sorted(rest.ok("indexes/list", {"collectionName": collection_name})) == ["doc/x", "vec"]


def test_an_invalid_scalar_index_is_refused(rest: Rest, collection_name: str) -> None:
    rest.custom_create(collection_name, [{"fieldName": "on", "dataType": "Bool"}])
    new = {"fieldName": "on", "indexName": "on", "indexType": "STL_SORT"}
    answer = rest.post("indexes/create", {"collectionName": collection_name, "indexParams": [new]})
    text = "STL_SORT are only supported on numeric, varchar or timestamptz field, got Bool: invalid parameter"
    assert (answer["code"], answer["message"]) == (1100, text)
