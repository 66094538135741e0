"""How far a command is: on a terminal a bar, by rich, or one line without it; elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any

_REPORT_SECONDS = 0.2
_LINE_SECONDS = 10.0


class Progress:
    """Shown on stderr, so that the output of the command stays clean. `unit`: bytes are shown as MB."""

    def __init__(self, what: str, unit: str = "rows") -> None:
        self._what = what
        self._unit = unit
        self._stack = ExitStack()
        self._bar: Any = None
        self._task: Any = None
        self._is_terminal = sys.stderr.isatty()
        self._shown_at = time.monotonic()

    def __enter__(self) -> Progress:
        if self._is_terminal and (bar := _bar(self._unit)) is not None:
            self._bar = self._stack.enter_context(bar)
            self._task = self._bar.add_task(self._what, total=None)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()
        if self._is_terminal and self._bar is None:
            print(file=sys.stderr)

    def __call__(self, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
            return
        now = time.monotonic()
        if now - self._shown_at < (_REPORT_SECONDS if self._is_terminal else _LINE_SECONDS) and done != total:
            return
        self._shown_at = now
        text = f"{self._what} {self._amount(done)} of {self._amount(total)} {self._name}"
        if self._is_terminal:
            print(f"\r{text}", end="", file=sys.stderr, flush=True)
        elif done != total:
            print(text, file=sys.stderr, flush=True)

    @property
    def _name(self) -> str:
        return "MB" if self._unit == "bytes" else self._unit

    def _amount(self, number: int) -> str:
        return f"{number / 1e6:,.0f}" if self._unit == "bytes" else f"{number:,}"


def _bar(unit: str) -> Any:
    """None if rich is not installed; what there is to see is then plain."""
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )
    except ImportError:
        return None
    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
