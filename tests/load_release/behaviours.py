"""The table of behaviours as data."""

from __future__ import annotations

import re
from pathlib import Path

DIRECTORY = Path(__file__).parent
_ROW_ID = re.compile(r"[A-Z]{2}-\d\d[sh]?")


def _tables() -> dict[str, list[list[str]]]:
    """The rows of each table that start with a row's ID, by the heading above it."""
    tables: dict[str, list[list[str]]] = {}
    heading = ""
    for line in (DIRECTORY / "behaviours.md").read_text().splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        cells = line.strip("| ").split(" | ")
        if line.startswith("| ") and _ROW_ID.fullmatch(cells[0]):
            tables.setdefault(heading, []).append(cells)
    return tables


_TABLES = _tables()
ROWS: tuple[tuple[str, ...], ...] = tuple(map(tuple, _TABLES["Rows"]))
NOT_APPLICABLE: dict[str, str] = {row[0]: row[1] for row in _TABLES["Not applicable"]}
