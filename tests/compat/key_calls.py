"""Calls of API keys."""

from __future__ import annotations

from typing import Any

import requests

ROOT_TOKEN = "root:Milvus"


def ask(uri: str, path: str, body: dict[str, Any], token: str = ROOT_TOKEN) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"}
    answer = requests.post(f"{uri}/milvine/v1/api_keys/{path}", json=body, headers=headers, timeout=30)
    found: dict[str, Any] = answer.json()
    return found


def make_key(uri: str, user: str, name: str = "k", token: str = ROOT_TOKEN, **more: Any) -> str:
    answer = ask(uri, "create", {"userName": user, "keyName": name, **more}, token)
    assert answer["code"] == 0, answer
    key: str = answer["data"]["apiKey"]
    return key
