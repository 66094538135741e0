"""JSON text: decoded as in Milvus, or split into members with their text as sent.

Integers keep all their digits. A lone UTF-16 surrogate, which is invalid in text, becomes U+FFFD, as in Go. NaN,
infinities and numbers beyond float64 are not JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
import numpy as np

_T = TypeVar("_T")
Sent = msgspec.Raw
"""A value as sent; `bytes` gives its text."""
_decode_value = msgspec.json.Decoder().decode
_decode_members = msgspec.json.Decoder(dict[str, Sent]).decode
_decode_rows = msgspec.json.Decoder(list[dict[str, Sent]]).decode
_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_SURROGATE = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
"""An escaped backslash, a surrogate pair, or a lone surrogate."""
_TOO_DEEP = "exceeded max depth"
"""Go's reason for a text of too many nested values."""


class NotJson(ValueError):
    """The error in a text."""


def loads(text: bytes | str) -> Any:
    """The one value of a text. Raises NotJson."""
    return _decoded(_decode_value, text)


def members(text: bytes | str | Sent) -> dict[str, Sent]:
    """The members of an object as sent. Raises NotJson, also if the text is not an object."""
    return _decoded(_decode_members, text)


def rows(text: bytes | str | Sent) -> list[dict[str, Sent]]:
    """The members of each object in a list. Raises NotJson, also if the list has other elements."""
    return _decoded(_decode_rows, text)


def dumps(value: object) -> bytes:
    """The text of a value, parts of which may be `Sent`."""
    return _encode(value)


def canonical(value: object) -> bytes:
    """The one text of equal values: keys in order."""
    return _encode_sorted(value)


def plain_text(value: object) -> str:
    """A JSON value as text, as in Milvus: the characters of a string, a number without an exponent, anything else as
    JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return str(np.format_float_positional(value, trim="-"))
    return dumps(value).decode()


def _decoded(decode: Callable[[Any], _T], text: bytes | str | Sent) -> _T:
    try:
        return decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        content = text.encode("utf-8", "replace") if isinstance(text, str) else bytes(text)
        mended = _SURROGATE.sub(lambda match: rb"\ufffd" if match["lone"] else match[0], content)
        if mended == content:
            raise NotJson(_TOO_DEEP if isinstance(error, RecursionError) else str(error)) from error
    return _decoded(decode, mended)


_GO_TYPES = {
    "null": "<nil>",
    "bool": "bool",
    "number": "float64",
    "string": "string",
    "object": "map[string]interface {}",
    "array": "[]interface {}",
}


def go_type(value: object) -> str:
    """Go's name for the type of a decoded JSON value."""
    return _GO_TYPES[json_kind(value)]


def json_kind(value: object) -> str:
    """The name of a JSON value in Go's decoder."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "string"
        case Mapping():
            return "object"
    return "array"
