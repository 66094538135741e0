"""LIKE patterns: `%` matches any text, `_` one character; a backslash escapes the next character."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow.compute as pc

from milvine.expr.errors import FilterError
from milvine.model.columns import text_lengths

MAX_REGEX_CHARACTERS = 16_384
"""For patterns with inner wildcards. RE2 refuses much longer patterns, but only while it reads rows."""
MAX_WILDCARDS = 100
"""For patterns with an inner `%`. The time that a character of a text takes grows with their number."""
_TOKEN = re.compile(r"\\(?P<escaped>.)|(?P<wildcard>[%_])|(?P<literal>[^\\%_]+)", re.DOTALL)
_ONLY_OUTER_PERCENTS = re.compile(r"(%*)((?:\\.|[^\\%_])*+)(%*)", re.DOTALL)
_REGEX_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")


def check_pattern(pattern: str, position: int) -> None:
    if len(pattern) - len(pattern.rstrip("\\")) & 1:
        raise FilterError(f"invalid like pattern, nothing to escape at its end: {pattern}", position)
    if _ONLY_OUTER_PERCENTS.fullmatch(pattern) is not None:
        return
    if len(pattern) > MAX_REGEX_CHARACTERS:
        raise FilterError(f"invalid like pattern, it is longer than {MAX_REGEX_CHARACTERS} characters", position)
    wildcards = [token["wildcard"] for token in _TOKEN.finditer(pattern) if token["wildcard"]]
    if "%" in wildcards and len(wildcards) > MAX_WILDCARDS:
        raise FilterError(f"invalid like pattern, it has more than {MAX_WILDCARDS} wildcards", position)


def prefix_of(pattern: str) -> str | None:
    """The prefix, if the pattern requires a non-empty prefix and nothing else."""
    simple = _ONLY_OUTER_PERCENTS.fullmatch(pattern)
    if simple is None or simple[1] or not simple[2] or not simple[3]:
        return None
    return _unescaped(simple[2])


def pieces_of(pattern: str) -> list[str]:
    """Texts that every match has in it, none of them empty."""
    pieces = [""]
    for token in _TOKEN.finditer(pattern):
        if token["wildcard"]:
            pieces.append("")
        else:
            pieces[-1] += token["escaped"] or token["literal"]
    return [piece for piece in pieces if piece]


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def match_pattern(texts: Any, pattern: str) -> Any:
    """pyarrow.BooleanArray for a StringArray; null stays null. The pattern has passed `check_pattern`."""
    simple = _ONLY_OUTER_PERCENTS.fullmatch(pattern)
    if simple is None:
        return pc.match_substring_regex(texts, _to_regex(pattern))
    head, body, tail = simple.groups()
    text = _unescaped(body)
    if head and (tail or not body):
        return pc.match_substring(texts, text)
    if head:
        return pc.ends_with(texts, text)
    return pc.starts_with(texts, text) if tail else pc.equal(texts, text)


def _to_regex(pattern: str) -> str:
    """The pattern for RE2, which pyarrow uses."""

    def translate(token: re.Match[str]) -> str:
        if token["wildcard"]:
            return ".*" if token["wildcard"] == "%" else "."
        return _REGEX_SPECIAL.sub(r"\\\g<0>", token["escaped"] or token["literal"])

    return rf"(?s)\A{_TOKEN.sub(translate, pattern)}\z"


def starts_with(texts: Any, prefixes: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """bool (n,): which of n texts start with the prefix of their row; both are StringArrays without nulls."""
    lengths, counts = text_lengths(texts), text_lengths(prefixes)
    matches: np.ndarray[Any, np.dtype[np.bool_]] = lengths >= counts
    rows = np.flatnonzero(matches)
    counts = counts[rows].astype(np.int64)
    steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    different = _bytes_at(texts, rows, counts, steps) != _bytes_at(prefixes, rows, counts, steps)
    matches[np.repeat(rows, counts)[different]] = False
    return matches


def _bytes_at(texts: Any, rows: Any, counts: Any, steps: Any) -> Any:
    """The first `counts` bytes of the texts at `rows`, one after another."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, 4 * texts.offset)
    data = texts.buffers()[2]
    flat = np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return flat[np.repeat(offsets[rows].astype(np.int64), counts) + steps]
