"""Errors in a filter, before `compile_filter` words them as Milvus does."""

from __future__ import annotations

NULL_LITERAL = "NULL literal is not supported in expressions; use '<field> is null' or '<field> is not null' instead"


class FilterError(Exception):
    """A filter that does not parse or does not fit the schema; `position` is an offset in its text.

    `sentinel` ends Milvus's text.
    """

    sentinel = "query plan failed"

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.position = position


class ArgumentError(FilterError):
    """Errors that Milvus reports as invalid parameters."""

    sentinel = "invalid parameter"


class PlanError(FilterError):
    """A filter that parses and fits the schema but cannot be a plan. Milvus's message does not quote the filter."""
