"""Text of literals -> Python values: integers within int64, Go's string escapes, and lists of both.

A list is decoded by orjson when it is also JSON (100,000 integers: 8 ms), else literal by literal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import cast

import orjson

from milvine.expr.errors import NULL_LITERAL, ArgumentError, FilterError
from milvine.expr.tree import Scalar

MAX_COMPUTED_ELEMENTS = 1000
"""Elements of a list that are arithmetic; each is parsed separately."""
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

_SIMPLE_ESCAPES = {
    **{letter: value.encode() for letter, value in zip(b"abfnrtv", "\a\b\f\n\r\t\v", strict=True)},
    **{letter: bytes([letter]) for letter in b"\\'\"?"},
}
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))", re.DOTALL)
_LONG_INTEGER = re.compile(r"(?<![\w.])\d{19,}(?![\d.eE])")
_ELEMENT = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\\r\n]|\\.)*+"|'(?:[^'\\\r\n]|\\.)*+')
      | (?P<boolean>true|True|TRUE|false|False|FALSE)\b
      | (?P<null>null\b)
      | (?P<sign>[+-]?)\s*(?P<number>0[xX][0-9a-fA-F]*\.?[0-9a-fA-F]+\.?[pP][+-]?[0-9]+
          |0[xX][0-9a-fA-F]+|0[bB][01]+|[0-9]*\.?[0-9]+\.?(?:[eE][+-]?[0-9]+)?)
    )\s*(?P<comma>,|$)""",
    re.VERBOSE | re.IGNORECASE,
)


def decode_integer(text: str, position: int, sign: int = 1) -> int:
    """Decimal, 0x, 0b, and octal with a leading 0, as Go's ParseInt reads them with base 0."""
    try:
        base = {"0x": 16, "0b": 2}.get(text[:2].lower(), 8 if text[0] == "0" else 10)
        value = sign * int(text, base)
    except ValueError:  # Python refuses to convert thousands of digits
        value = INT64_MAX + 2
    if not INT64_MIN <= value <= INT64_MAX:
        raise FilterError(f"int64 overflow: {text}", position)
    return value


def decode_index(digits: str, position: int) -> int:
    """The index in an array, a decimal int64."""
    if len(digits) > 19 or int(digits) > INT64_MAX:
        reason = f'json key must be enclosed in double quotes or single quotes: "{digits}"'
        raise FilterError(reason, position)
    return int(digits)


def decode_float(text: str, position: int, sign: int = 1) -> float:
    """Decimal, or hexadecimal with a binary exponent (`0x1.8p0`)."""
    try:
        value = sign * (float.fromhex(text) if _is_hexadecimal(text) else float(text))
    except OverflowError:
        value = math.inf
    if math.isinf(value):
        raise FilterError(f'strconv.ParseFloat: parsing "{text}": value out of range', position)
    return value


def decode_string(quoted: str, position: int) -> str:
    """The content of '…', "…" or, unchanged, r"…". Escapes are Go's; any other, such as `\\%`, is invalid syntax."""

    def unescape(match: re.Match[bytes]) -> bytes:
        byte, short, long, octal, letter = match.groups()
        if byte or octal:
            return bytes([int(byte, 16) if byte else int(octal, 8)])
        if short or long:
            return chr(int(short or long, 16)).encode()
        return _SIMPLE_ESCAPES[letter[0]]

    if quoted[0] in "rR":
        return quoted[2:-1]
    content = quoted[1:-1]
    if "\\" not in content:
        return content
    try:
        return _ESCAPE.sub(unescape, content.encode()).decode()
    except (KeyError, ValueError, OverflowError) as error:
        raise FilterError("invalid syntax", position) from error


def decode_pattern(quoted: str) -> str:
    """The regular expression in '…', "…" or r"…": a backslash only escapes itself and the quote."""
    if quoted[0] in "rR":
        return quoted[2:-1]
    return re.sub(rf"\\([\\{quoted[0]}])", r"\1", quoted[1:-1])


def decode_list(text: str, position: int, constant: Callable[[str], Scalar | None]) -> list[Scalar]:
    """`constant` computes an element that is not a literal; it returns None if the element is not a constant."""
    body = text[1:-1].strip()
    if body.endswith(",") and body != ",":
        body = body[:-1]
    if '"' not in body and "\\" not in body:
        body = body.replace("'", '"')  # no string contains a quote here
    try:
        values = orjson.loads(f"[{body}]")
    except orjson.JSONDecodeError:
        return _decode_elements(body, position, constant)
    kinds = set(map(type, values))
    if type(None) in kinds:
        raise ArgumentError(NULL_LITERAL, position)
    if not kinds <= {bool, int, float, str}:
        raise ArgumentError(f"array element type must be generic value, but got: {text}", position)
    if float in kinds and _LONG_INTEGER.search(body):
        return _decode_elements(body, position, constant)  # orjson rounds integers beyond 64 bits
    if int in kinds:
        highest = max(values) if kinds == {int} else max(v for v in values if type(v) is int)
        if highest > INT64_MAX:
            raise FilterError(f"int64 overflow: {highest}", position)
    return cast(list[Scalar], values)


def _decode_elements(body: str, position: int, constant: Callable[[str], Scalar | None]) -> list[Scalar]:
    values: list[Scalar] = []
    offset = computed = 0
    while offset < len(body):
        match = _ELEMENT.match(body, offset)
        if match is None or (match["comma"] and match.end() == len(body)):
            end = body.find(",", offset)
            element = body[offset : len(body) if end < 0 else end].strip()
            computed += 1
            if computed > MAX_COMPUTED_ELEMENTS:
                raise FilterError(f"list has more than {MAX_COMPUTED_ELEMENTS} elements to compute", position)
            value = constant(element) if element and end != len(body) - 1 else None
            if value is None:
                raise ArgumentError(f"array element type must be generic value, but got: {element}", position)
            values.append(value)
            offset = len(body) if end < 0 else end + 1
            continue
        if match["string"]:
            values.append(decode_string(match["string"], position))
        elif match["boolean"]:
            values.append(match["boolean"].lower() == "true")
        elif match["null"]:
            raise ArgumentError(NULL_LITERAL, position)
        else:
            values.append(decode_number(match["number"], position, -1 if match["sign"] == "-" else 1))
        offset = match.end()
    return values


def _is_hexadecimal(text: str) -> bool:
    return text[:2] in ("0x", "0X")


def decode_number(text: str, position: int, sign: int = 1) -> int | float:
    is_float = any(mark in text for mark in (".pP" if _is_hexadecimal(text) else ".eE"))
    return (decode_float if is_float else decode_integer)(text, position, sign)
