"""Lists of KeyValuePair, and the numbers and words in them as Milvus (Go) reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from milvine.errors import ParameterInvalid
from milvine.model.properties import parse_bool


def pairs(repeated: Iterable[Any]) -> dict[str, str]:
    """A list of KeyValuePair as a dict."""
    return {pair.key: pair.value for pair in repeated}


def whole(text: str | None) -> int | None:
    """None if the text is no whole number."""
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def int_of(params: Mapping[str, str], name: str, default: int) -> int:
    """Raises ParameterInvalid for a text that is no whole number; an empty one counts as absent."""
    text = params.get(name)
    if text is None or text == "":
        return default
    try:
        return int(text)
    except ValueError:
        raise ParameterInvalid(f"{name} [{text}] is invalid") from None


def listed(params: Mapping[str, str], name: str) -> tuple[str, ...]:
    """The parts of a text with commas."""
    return tuple(part.strip() for part in params.get(name, "").split(",") if part.strip())


def bool_of(params: Mapping[str, str], name: str) -> bool:
    """False if absent or empty. Raises ParameterInvalid for words that Go's strconv.ParseBool does not know."""
    text = params.get(name)
    found = parse_bool(text) if text else False
    if found is None:
        raise ParameterInvalid(f"value for {name} is invalid", expected="true or false", actual=text)
    return found
