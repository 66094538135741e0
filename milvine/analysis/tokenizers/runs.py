"""Tokenizers that split a text at characters: standard, whitespace and char_group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from milvine.analysis.code_points import (
    ASCII_WHITESPACE,
    WHITESPACE,
    Table,
    alphanumeric,
    categories,
    runs,
    table_of,
)
from milvine.analysis.params import Params, invalid_argument
from milvine.analysis.terms import Stream

_ASCII = range(0x80)


@dataclass(frozen=True)
class Runs:
    """The runs of characters of a set."""

    table: Callable[[], Table]

    def split(self, texts: pa.StringArray, with_places: bool) -> Stream:
        return runs(texts, self.table(), with_places)


STANDARD = Runs(alphanumeric)


def whitespace() -> Runs:
    table = ~table_of(ASCII_WHITESPACE)
    return Runs(lambda: table)


def _ascii(predicate: Callable[[str], bool]) -> Table:
    return table_of("".join(chr(code) for code in _ASCII if predicate(chr(code))))


def _of_category(initial: str) -> Table:
    """All characters whose general category has this first letter."""
    table: Table = np.char.startswith(categories(), initial)
    return table


def _letters() -> Table:
    table: Table = alphanumeric() & (categories() != "Nd") & (categories() != "No")
    return table


GROUPS: dict[str, Callable[[], Table]] = {
    "whitespace": lambda: table_of(WHITESPACE),
    "letter": _letters,
    "digit": lambda: _ascii(str.isdigit),
    "punctuation": lambda: _of_category("P"),
    "symbol": lambda: _of_category("S"),
    "ascii_whitespace": lambda: table_of(ASCII_WHITESPACE),
    "ascii_letter": lambda: _ascii(str.isalpha),
    "ascii_digit": lambda: _ascii(str.isdigit),
    "ascii_punctuation": lambda: _ascii(lambda c: c.isprintable() and not c.isalnum() and c != " "),
}


def char_group(params: Params | None) -> Runs:
    if params is None:
        raise invalid_argument("char group tokenizer must be customized")
    if "delimiters" not in params:
        raise invalid_argument("char group tokenizer delimiters can't be empty")
    delimiters = params["delimiters"]
    if not isinstance(delimiters, list):
        raise invalid_argument("char group tokenizer delimiters must be a vector")
    if not all(isinstance(delimiter, str) for delimiter in delimiters):
        raise invalid_argument("char group tokenizer delimiter in delimiters must be string")
    names = [delimiter for delimiter in delimiters if len(delimiter) != 1]
    for name in names:
        if name not in GROUPS:
            raise invalid_argument(f"{name} not a char or name of build-in char group")
    table = ~table_of("".join(delimiter for delimiter in delimiters if len(delimiter) == 1))
    for name in names:
        table &= ~GROUPS[name]()
    return Runs(lambda: table)
