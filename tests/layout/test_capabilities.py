"""Every function of the service that an adapter may call declares what a caller needs."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from milvine import service
from milvine.service.gate import declaration_of

ROOT = Path(__file__).resolve().parents[2]
OTHERS = {
    "admin.is_serving": "health pages ask for no user",
    "api_keys.caller_by_key": "finds out who the caller is",
    "api_keys.is_expired": "compares a key with the clock",
    "audit.names_of": "reads names from a request",
    "ann_params.ignores_growing": "reads a parameter",
    "certificates.caller_by_certificate": "finds out who the caller is",
    "collections.collection_for": "passes the gate of another capability",
    "context.channel_name": "makes a name of an id",
    "segments.compaction_status": "counts what a capability returned",
    "system_info.component_name": "a constant",
    "users.authenticate": "finds out who the caller is",
}
"""Functions of the service that adapters may call though they are no capabilities."""


def _service_functions() -> Iterator[tuple[str, Any]]:
    """By module and name; those that a package offers, by the package's name."""
    for info in pkgutil.walk_packages(service.__path__, f"{service.__name__}."):
        module = importlib.import_module(info.name)
        for name, found in vars(module).items():
            is_own = isinstance(found, FunctionType) and (found.__module__ + ".").startswith(module.__name__ + ".")
            if is_own and not name.startswith("_"):
                yield f"{info.name.rpartition('.')[2]}.{name}", found


FUNCTIONS = dict(_service_functions())


def _used_by_adapters() -> set[str]:
    """`module.function` of each function of the service that gRPC or REST names."""
    used: set[str] = set()
    for path in [*(ROOT / "milvine/grpc_api").glob("*.py"), *(ROOT / "milvine/rest_api").glob("*.py")]:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("milvine.service."):
                used |= {f"{(node.module or '').rpartition('.')[2]}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used.add(f"{node.value.id}.{node.attr}")
    return used & FUNCTIONS.keys()


USED = sorted(_used_by_adapters())


def test_adapters_use_the_service() -> None:
    assert len(USED) > 60


@pytest.mark.parametrize("name", USED)
def test_an_adapter_calls_only_functions_that_declare_what_a_caller_needs(name: str) -> None:
    assert declaration_of(FUNCTIONS[name]) is not None or name in OTHERS


@pytest.mark.parametrize("name", sorted(n for n, f in FUNCTIONS.items() if declaration_of(f)))
def test_a_capability_takes_the_engine_and_the_context_of_the_request(name: str) -> None:
    parameters = list(inspect.signature(FUNCTIONS[name]).parameters)
    assert parameters[:2] == ["engine", "context"]
