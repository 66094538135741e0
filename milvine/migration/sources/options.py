"""What the command line says of a source, beside its place."""

from __future__ import annotations

from milvine.model.records import record


@record
class SourceOptions:
    token: str = ""
    database: str = "default"
