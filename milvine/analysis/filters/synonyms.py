"""The dictionary of the filter `synonym`, in Milvus's notation."""

from __future__ import annotations

import re

from milvine.analysis.params import invalid_argument

_PART = re.compile(r"\\(?P<escaped>=>|[\s\S]|\Z)|(?P<arrow>=>)|(?P<comma>,)|(?P<space> +)|(?P<plain>[\s\S])")
_ESCAPABLE = (",", "\\", " ", "=>")


class Synonyms:
    """Rows are `a, b, c` (each stands for the others) or `a => b, c` (a becomes b and c). A backslash takes their
    meaning from a comma, a space, an arrow and a backslash."""

    def __init__(self, expands: bool) -> None:
        """If `expands`, a word keeps itself; otherwise the first of a row replaces the others."""
        self._expands = expands
        self._words: dict[str, dict[str, None]] = {}

    def of(self, word: str) -> tuple[str, ...]:
        """The words that replace a word: at least one."""
        return tuple(self._words.get(word, ())) or (word,)

    def add_row(self, row: str) -> None:
        """Raises AnalyzerInvalid."""
        left, right = _read(row)
        if right is not None:
            for word in left:
                self._add(word, right)
            return
        for word in left:
            self._add(word, left if self._expands else left[:1])

    def _add(self, word: str, others: list[str]) -> None:
        found = self._words.setdefault(word, {word: None} if self._expands else {})
        found.update(dict.fromkeys(others))


def _read(row: str) -> tuple[list[str], list[str] | None]:
    """The words before and after the arrow; None without an arrow."""
    sides: list[list[str]] = [[]]
    current, is_ended = "", False
    for part in _PART.finditer(row):
        if (escaped := part["escaped"]) is not None:
            if not escaped:
                raise invalid_argument(f"invalid synonym escaped in the end: {row}")
            if escaped not in _ESCAPABLE:
                raise invalid_argument(f"invalid synonym escaped: \\{escaped} in {row}")
            current += escaped
        elif part["space"]:
            is_ended = bool(current)
        elif part["plain"]:
            if is_ended:
                raise invalid_argument(
                    f"read synonym dict failed, has space between words {row}, please use \\ to escape space"
                )
            current += part["plain"]
        else:
            if part["arrow"] and len(sides) == 2:
                raise invalid_argument(f'read synonym dict failed, has more than one "=>" in {row}')
            if current:
                sides[-1].append(current)
            current, is_ended = "", False
            if part["arrow"]:
                sides.append([])
    if current:
        sides[-1].append(current)
    return sides[0], sides[1] if len(sides) == 2 else None
