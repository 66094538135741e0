"""What a command found: a table for people, or JSON for programs."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_WIDEST_CELL = 60
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def print_json(found: Any) -> None:
    print(json.dumps(found, ensure_ascii=False, indent=2))


def counted(number: int, noun: str) -> str:
    """Such as `1 file` and `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_table(rows: Sequence[Mapping[str, Any]], columns: Iterable[str] = ()) -> None:
    """Numbers stand to the right. Without `columns`: the keys of the rows, in the order of their first appearance."""
    names = list(columns) or list(dict.fromkeys(name for row in rows for name in row))
    texts = [[_cell(row.get(name)) for name in names] for row in rows]
    widths = [max([len(name), *(len(line[i]) for line in texts)]) for i, name in enumerate(names)]
    is_number = [all(isinstance(row.get(name), int | float) for row in rows) for name in names]
    for line in (names, *texts):
        cells = [
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(line, widths, is_number, strict=True)
        ]
        print("  ".join(cells).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        text = ""
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, int):
        text = f"{value:,}" if abs(value) < 1 << 53 else str(value)
    elif isinstance(value, float):
        text = f"{value:.6g}"
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # A terminal must not run what a row holds.
    text = _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
    return text if len(text) <= _WIDEST_CELL else f"{text[: _WIDEST_CELL - 1]}…"
