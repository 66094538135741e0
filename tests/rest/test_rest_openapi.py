"""The OpenAPI description: it is valid, has every route, and says of each key what the code reads."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import Server
from openapi_spec_validator import validate

from milvine.model.known_keys import KEYS, Verdict
from milvine.rest_api import openapi, unserved
from milvine.rest_api.app import VERSIONS

SOURCES = Path(openapi.__file__).parent
READERS: dict[str, tuple[dict[str, Any], ...]] = {
    "text": ({"type": "string"},),
    "boolean": ({"type": "boolean"},),
    "integer": ({"type": "integer", "format": "int32"},),
    "long": ({"type": "integer", "format": "int64"},),
    "texts": ({"type": "array", "items": {"type": "string"}},),
    "longs": ({"type": "array", "items": {"type": "integer", "format": "int64"}},),
    "inners": ({"type": "array", "items": {"type": "object"}},),
    "array": ({"type": "array", "items": {}}, {"type": "array", "items": {"type": "object"}}, {}),
    "inner": ({"type": "object"},),
    "mapping": ({"type": "object"},),
}
"""The methods that read a key of a body, and what they accept."""


def _reads() -> set[tuple[str, str]]:
    """Pairs of a key and a method that reads it, from the source."""
    calls = [
        n for path in SOURCES.glob("*.py") for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)
    ]
    return {
        (str(call.args[0].value), call.func.attr)
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in READERS
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }


_OTHERS = {("fields", "texts")}
"""Keys of search aggregations, whose inner keys are not described."""
READS = sorted(pair for pair in _reads() - _OTHERS if pair[0] in openapi.TYPES)


@pytest.fixture(scope="module")
def described(server: Server) -> Any:
    answer = requests.get(f"{server.uri}/openapi.json", timeout=30)
    assert answer.headers["Content-Type"] == "application/json"
    return answer.json()


def test_the_description_is_valid_openapi(described: Any) -> None:
    assert described["openapi"] == "3.1.0"
    validate(described)


def test_every_route_is_described_with_its_required_keys(described: Any) -> None:
    for version in VERSIONS:
        for path, route in version.routes.items():
            operation = described["paths"][version.prefix + path][route.method.lower()]
            if route.method == "POST":
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                assert schema.get("required", []) == [name for name in route.required if "/" not in name]
                assert set(schema["properties"]) == {
                    key for key, known in KEYS[route.kind].items() if known.verdict is Verdict.SERVED
                }


def test_routes_that_always_refuse_are_marked(described: Any) -> None:
    marked = {path for path, methods in described["paths"].items() for one in methods.values() if one.get("deprecated")}
    assert marked == {f"/v2/vectordb/{path}" for path in unserved.ROUTES}


def test_inner_objects_are_described(described: Any) -> None:
    schema = described["paths"]["/v2/vectordb/collections/create"]["post"]["requestBody"]["content"]["application/json"]
    fields = schema["schema"]["properties"]["schema"]["properties"]["fields"]
    assert fields["items"]["properties"]["isPrimary"] == {"type": "boolean"}


@pytest.mark.parametrize(("key", "reader"), READS)
def test_a_key_has_the_type_that_the_code_reads(key: str, reader: str) -> None:
    types = [found for name, found in openapi.TYPES.items() if name == key or name.endswith(f".{key}")]
    assert any(found in READERS[reader] for found in types)


def test_every_key_of_a_body_has_a_type() -> None:
    kinds = {route.kind for version in VERSIONS for route in version.routes.values()}
    served = {key for kind in kinds for key, known in KEYS[kind].items() if known.verdict is Verdict.SERVED}
    assert served <= openapi.TYPES.keys()


def test_most_keys_are_compared_with_the_code() -> None:
    assert len({key for key, _ in READS}) > 60
