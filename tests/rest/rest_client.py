"""A plain client of REST v2."""

from __future__ import annotations

import json
import time
from typing import Any

import requests

PREFIX = "/v2/vectordb/"
LOADED = "LoadStateLoaded"
NOT_LOAD = "LoadStateNotLoad"
VECTOR_INDEX = {"fieldName": "vec", "indexName": "vec", "metricType": "L2"}


class Rest:
    """`post` returns a route's decoded answer; `ok` requires success and returns its data."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.session = requests.Session()

    def send(self, path: str, content: bytes, **headers: str) -> requests.Response:
        given = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return self.session.post(self.uri + PREFIX + path, data=content, headers=given, timeout=30)

    def post(self, path: str, body: Any, **headers: str) -> dict[str, Any]:
        content = json.dumps(body).encode()
        answer: dict[str, Any] = self.send(path, content, **headers).json()
        return answer

    def ok(self, path: str, body: Any, **headers: str) -> Any:
        answer = self.post(path, body, **headers)
        assert answer["code"] == 0, answer
        return answer["data"]

    def quick_create(self, name: str, dim: int = 2, **more: Any) -> None:
        self.ok("collections/create", {"collectionName": name, "dimension": dim, **more})

    def custom_create(self, name: str, fields: list[dict[str, Any]], **more: Any) -> None:
        """A key `id`, a vector `vec` of 2, and `fields`; not indexed unless `more` has indexParams."""
        self.ok("collections/create", {"collectionName": name, "schema": schema(fields), **more})

    def state(self, name: str) -> str:
        found: str = self.ok("collections/get_load_state", {"collectionName": name})["loadState"]
        return found

    def wait_loaded(self, name: str, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while self.state(name) != LOADED:
            assert time.monotonic() < deadline, f"{name} is not loaded after {seconds} s"
            time.sleep(0.01)

    def count(self, name: str) -> int:
        rows = self.ok("entities/query", {"collectionName": name, "outputFields": ["count(*)"]})
        counted: int = rows[0]["count(*)"]
        return counted


def schema(fields: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    key = {"fieldName": "id", "dataType": "Int64", "isPrimary": True}
    vector = {"fieldName": "vec", "dataType": "FloatVector", "elementTypeParams": {"dim": 2}}
    return {"fields": [key, vector, *fields], **more}
