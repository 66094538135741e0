"""What is on disk when a sync returns."""

from __future__ import annotations

import os

import pytest


def sizes_at_sync(monkeypatch: pytest.MonkeyPatch, call: str) -> list[int]:
    """The size of the file at the end of each `os.fsync` or `os.fdatasync` after this call."""
    sizes: list[int] = []
    real = getattr(os, call)

    def recording(descriptor: int) -> None:
        real(descriptor)
        sizes.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, call, recording)
    return sizes
