"""What the command line says of a source, beside its place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceOptions:
    token: str = ""
    database: str = "default"
