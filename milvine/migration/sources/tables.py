"""Fields for the columns of tables, and values for them, alike for LanceDB and PostgreSQL."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from milvine.migration.columns import json_text
from milvine.migration.shape import LARGEST_ARRAY, LONGEST_TEXT, Field
from milvine.model.types import DataType

TEXT = {"max_length": LONGEST_TEXT}
_LONGEST_ELEMENT = {"max_capacity": LARGEST_ARRAY, "max_length": LONGEST_TEXT}


def array_field(name: str, element: DataType, origin: str) -> Field:
    params = dict(_LONGEST_ELEMENT) if element is DataType.VARCHAR else {"max_capacity": LARGEST_ARRAY}
    return Field(name, DataType.ARRAY, params, element, nullable=True, origin=origin)


def text_field(name: str, origin: str) -> Field:
    return Field(name, DataType.VARCHAR, dict(TEXT), nullable=True, origin=origin)


def texts(values: Sequence[Any]) -> list[str | None]:
    """Texts as they are; dates and times as ISO 8601; all else as JSON writes it, or Python."""
    return [None if value is None else _text(value) for value in values]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | uuid.UUID | datetime.timedelta):
        return str(value)
    return json_text(value) or ""


READERS: dict[DataType, Callable[[Sequence[Any]], list[Any]]] = {
    DataType.VARCHAR: texts,
    DataType.JSON: lambda values: [json_text(value) for value in values],
    DataType.DOUBLE: lambda values: [None if value is None else float(value) for value in values],
}
"""Of the types whose values need a change."""
