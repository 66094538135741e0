"""The table and the tests have the same rows, and only rows that the table excuses may be skipped."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from behaviours import DIRECTORY, NOT_APPLICABLE, ROWS

_TEST_NAME = re.compile(r"test_([a-z]{2})_(\d\d[sh]?)_\w+")
_ESCAPES = {"skip", "skipif", "xfail", "importorskip", "exit"}
_MODULES = sorted(DIRECTORY.glob("test_rows_*.py"))


def _functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every test function with the ID that its name gives."""
    for module in _MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                name = _TEST_NAME.fullmatch(node.name)
                assert name is not None, f"{module.name}: {node.name} names no row"
                yield f"{name[1].upper()}-{name[2]}", node


def _excuses(function: ast.FunctionDef) -> list[object]:
    """The rows that a test passes to the helper that skips it."""
    return [
        ast.literal_eval(node.args[0])
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "not_applicable"
    ]


def test_the_table_has_151_different_rows_of_four_cells() -> None:
    assert len({row[0] for row in ROWS}) == len(ROWS) == 151
    assert {len(row) for row in ROWS} == {4}


def test_every_row_has_exactly_one_test() -> None:
    assert Counter(row for row, _ in _functions()) == Counter(row[0] for row in ROWS)


def test_only_rows_that_the_table_names_can_be_not_applicable_and_only_in_their_own_test() -> None:
    excused = {row: found for row, function in _functions() if (found := _excuses(function))}
    assert excused == {row: [row] for row in NOT_APPLICABLE}


@pytest.mark.parametrize("module", _MODULES, ids=lambda module: module.name)
def test_no_row_is_left_out_in_any_other_way(module: Path) -> None:
    used = {node.attr for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Attribute)}
    assert used & _ESCAPES == set()
