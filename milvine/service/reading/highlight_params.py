"""Readers of highlighters' parameters. Names and messages are Milvus's (proxy/highlighter.go)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from milvine.errors import ParameterInvalid
from milvine.model import json_text
from milvine.model.properties import parse_bool

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")


def tags(params: Mapping[str, str], key: str, usual: str, kind: str) -> tuple[str, ...]:
    if key not in params:
        return (usual,)
    refusal = f"unmarshal {key} as string {kind} failed: "
    found = decoded(params[key], refusal)
    if not isinstance(found, list) or not all(isinstance(tag, str) for tag in found):
        raise ParameterInvalid(f"{refusal}it is no list of strings")
    if not found:
        raise ParameterInvalid(f"{key} cannot be empty list")
    return tuple(found)


def number(params: Mapping[str, str], key: str, usual: int, least: int = 0) -> int:
    text = params.get(key)
    if text is None:
        return usual
    if _INTEGER.fullmatch(text) is None or not least <= int(text) < 2**63:
        raise ParameterInvalid(f"invalid {key}: {text}")
    return int(text)


def is_on(params: Mapping[str, str], key: str, usual: bool) -> bool:
    text = params.get(key)
    if text is None:
        return usual
    value = parse_bool(text)
    if value is None:
        raise ParameterInvalid(f'unmarshal {key} as bool failed: strconv.ParseBool: parsing "{text}": invalid syntax')
    return value


def decoded(text: str, refusal: str) -> Any:
    try:
        return json_text.loads(text)
    except json_text.NotJson as error:
        raise ParameterInvalid(f"{refusal}{error}") from error
