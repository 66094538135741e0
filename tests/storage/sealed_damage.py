"""Ways to damage a file."""

from __future__ import annotations

from pathlib import Path


def flip_bit(path: Path, offset: int, bit: int = 0) -> None:
    """Flip one bit; a negative offset counts from the end."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def truncate(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])
